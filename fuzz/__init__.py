"""Coverage-guided fuzzing of every parser; fuzz/run.py says how to run it and how to add a parser."""
