"""IKEv2 messages (RFC 7296 section 3 and its extensions): payloads, and the messages they make."""
