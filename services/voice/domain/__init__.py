"""Nouns of voice."""
