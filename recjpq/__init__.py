"""What training and serving must agree on: the artifact, the catalogue and exact scoring.

Needs NumPy, PyArrow for the catalogue's file, and this package's own compiled kernel; imports neither
`training` nor `service`.
"""

__version__ = "0.1.0"
