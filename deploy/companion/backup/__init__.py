"""Backup and restore of a whole installation: what is kept, how it is sealed, how it comes back."""
