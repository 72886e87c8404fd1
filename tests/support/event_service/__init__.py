"""A small service for tests of the messaging: it writes down each usage that it hears of, once.

What its handler does beside that (fail, die, wait at a gate) is told by the event's `model`.
"""
