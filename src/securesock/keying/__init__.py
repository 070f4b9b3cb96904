"""Key exchange: machines without I/O that turn a wish for a secured flow into SAs and a proven peer."""
