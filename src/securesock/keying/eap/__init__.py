"""EAP: how a user is proven to a machine, whatever key exchange carries it (RFC 3748)."""
