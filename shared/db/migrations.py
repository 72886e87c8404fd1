"""Schema migrations of one service: Alembic, run from here and from each service's `env.py`."""

from __future__ import annotations

from pathlib import Path

from alembic import command, context
from alembic.config import Config
from sqlalchemy import MetaData, create_engine, pool
from sqlalchemy.engine import make_url

_SERVICES = Path(__file__).parents[2] / "services"


def alembic_config(service: str, database_url: str) -> Config:
    """Alembic's configuration for one service, made here so that no file holds a URL."""
    config = Config()
    config.set_main_option("script_location", str(_SERVICES / service / "storage" / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config


def upgrade(service: str, database_url: str) -> None:
    """Bring a service's database to the newest revision; safe to run twice and at the same time."""
    command.upgrade(alembic_config(service, database_url), "head")


def run_environment(metadata: MetaData) -> None:
    """The whole of a service's `migrations/env.py`."""
    engine = create_engine(
        make_url(context.config.attributes["database_url"]).set(drivername="postgresql+psycopg2"),
        poolclass=pool.NullPool,
    )
    with engine.connect() as connection:
        # Two migrations at once wait for each other here instead of failing half-way.
        connection.exec_driver_sql("select pg_advisory_lock(4242)")
        connection.commit()
        context.configure(
            connection=connection, target_metadata=metadata, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.exec_driver_sql("select pg_advisory_unlock(4242)")
        connection.commit()
    engine.dispose()
