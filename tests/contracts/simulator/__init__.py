"""The simulator against the vendors' own SDKs, and its odd frames read byte by byte."""
