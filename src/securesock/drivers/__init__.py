"""The only code that owns descriptors, threads and the clock."""
