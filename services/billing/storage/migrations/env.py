"""Alembic's environment for billing's database."""

from services.billing.storage.tables import metadata
from shared.db.migrations import run_environment

run_environment(metadata)
