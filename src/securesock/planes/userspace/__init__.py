"""ESP in this process: over the application's own TCP connection, or in UDP."""
