"""IKEv2 (RFC 7296) as machines without I/O, one module per exchange."""
