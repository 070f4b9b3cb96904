"""Scripts of the project: its environment, suites, checks and releases.

They run with nothing but the standard library, because the first of them makes
the environment in which everything else is installed.  They never import securesock.
"""
