"""Online: an artifact in, recommendations over HTTP out. Never imports torch."""
