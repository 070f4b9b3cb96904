"""Who this process is, and who a peer proves to be: names, credentials, certificates, pre-shared keys.

Nothing here opens a socket, reads a clock or fetches anything because a peer asked: files are read when an
identity is made, and certificates are judged at the time that the caller gives.
"""
