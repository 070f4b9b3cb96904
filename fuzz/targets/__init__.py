"""One module per part of securesock whose parsers are fuzzed; every module here is found by itself."""
