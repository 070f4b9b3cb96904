"""Bytes to frozen values and back, for every format that securesock puts on the wire.

Nothing here knows of clocks, keys, sockets, policy or state.  A reader parses or
raises WireError; number spaces stay open, so that what a later standard adds
survives parsing as plain ints and bytes.
"""
