"""securesock: IPsec for one socket, in three lines of Python."""

__version__ = "0.1.0"
