"""The web process: one way to build it, to answer errors, and to know who is calling."""
