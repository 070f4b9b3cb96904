"""The cases; every module in this folder is loaded by name, each registers one or more with ``harness.case``."""
