"""CubeFS authentication, sans I/O: tickets, capabilities, handshakes, sealed records.

Bytes in, values and bytes out. Nothing here waits, reads a clock, opens a
file or draws a random number by itself: `now` (unix seconds) and `Entropy`
are arguments everywhere.
"""

__version__ = "0.1.0"
