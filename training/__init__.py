"""Offline: an interaction log in, a checked artifact out. Needs the extra `training`."""
