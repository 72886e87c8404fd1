"""Billing's nouns and rules."""
