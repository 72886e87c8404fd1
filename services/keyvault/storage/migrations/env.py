"""Run by Alembic."""

from services.keyvault.storage.tables import metadata
from shared.db.migrations import run_environment

run_environment(metadata)
