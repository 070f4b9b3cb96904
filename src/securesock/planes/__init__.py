"""What carries protected bytes.  A plane seals and opens; sockets, threads and the clock belong to drivers."""
