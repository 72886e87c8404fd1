"""What Alembic runs; the rest is the same for every service."""

from services.auth.storage.tables import metadata
from shared.db.migrations import run_environment

run_environment(metadata)
