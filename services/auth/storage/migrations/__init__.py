"""Alembic's environment and the revisions of auth's schema."""
