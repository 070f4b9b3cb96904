"""Cryptography of IKEv2 and ESP, composed from the primitives of pyca/cryptography.

Nothing here implements a primitive: suites name them, and the modules put them
together as the RFCs say.  The folder knows nothing of message formats, sockets,
policy or time; algorithm numbers are IANA's, as plain ints.
"""
