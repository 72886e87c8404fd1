"""Billing's doors for HTTP."""
