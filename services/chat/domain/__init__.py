"""Nouns of chat."""
