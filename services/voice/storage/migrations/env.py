"""Alembic's entry point."""

from services.voice.storage.tables import metadata
from shared.db.migrations import run_environment

run_environment(metadata)
