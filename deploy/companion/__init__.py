"""The embedded default: every engine and service of the suite as processes of this machine."""
