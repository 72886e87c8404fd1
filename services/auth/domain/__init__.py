"""The nouns of auth and their rules. Plain Python: no framework, no I/O."""
