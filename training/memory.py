"""What a process has taken of the machine's memory."""

import resource
import sys


def peak_rss_bytes() -> int:
    """Return the most memory that this process has had resident at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB
