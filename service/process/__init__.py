"""Processes and sockets: one or several workers, how they start, drain and end."""
