"""The demonstration: two processes, a recorder on the path between them, and what was proven, refused and seen.

It stands above the socket interface like any application and uses nothing but its public names.
"""
