"""The outside world: the vendors' public prices."""
