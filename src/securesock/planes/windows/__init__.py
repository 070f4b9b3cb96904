"""The plane of Windows: the system's own IPsec, switched on for a socket by the system's own calls.

``extensions`` says which calls there are, in bytes; ``fwpuclnt`` makes them.
"""
