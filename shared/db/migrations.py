"""Schema migrations of one service: Alembic, run from here and from each service's `env.py`.

A migration runs while the service does. It waits for a lock for a moment only, since whoever comes
after it waits as well, and is tried again; what it may do is in docs/migrations.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from shared.db.engine import KEEP_ALIVE

log = structlog.get_logger(__name__)

_SERVICES = Path(__file__).parents[2] / "services"

# As long as all requests at this table may be held up by a migration that waits.
LOCK_TIMEOUT = "3s"
_TRIES = 20
_PAUSE_SECONDS = 1.0
# A lock that did not come in time, and one for which the service and we waited for each other.
_TRY_AGAIN = {"55P03", "40P01"}
_BACKFILL_PAUSE_SECONDS = 0.05

_TURN_PAUSE_SECONDS = 0.5
_TAKE_TURN = "select pg_try_advisory_lock(4242)"
_WHOSE_TURN = """
    select pid from pg_locks where locktype = 'advisory' and granted and objid = 4242
    and database = (select oid from pg_database where datname = current_database())
"""

COLUMNS = """
    select relname, attname from pg_class join pg_attribute on attrelid = pg_class.oid
    where relkind in ('r', 'p') and attnum > 0 and not attisdropped
    and relnamespace in (select oid from pg_namespace where nspname = any(current_schemas(false)))
"""
"""SQL that lists what is in a database: table and column."""


class DatabaseOfAnother(SQLAlchemyError):
    """What this release needs is not in it, though its revision is this release's own, or unknown
    here: no release of the service has migrated it so. Another service's, more likely."""


def lacking(metadata: MetaData, found: Iterable[Sequence[str]]) -> list[str]:
    """The columns of a service that are not among those found, as `table.column`."""
    names = {tuple(one) for one in found}
    columns = [
        (table.name, column.name) for table in metadata.tables.values() for column in table.c
    ]
    return [".".join(one) for one in columns if one not in names]


def alembic_config(service: str, database_url: str) -> Config:
    """Alembic's configuration for one service, made here so that no file holds a URL."""
    config = Config()
    config.set_main_option("script_location", str(_SERVICES / service / "storage" / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config


def upgrade(service: str, database_url: str, *, tries: int = _TRIES) -> None:
    """Bring a service's database to the newest revision; safe to run twice and at the same time.

    What a newer release has migrated is left as it is: this one runs on it (docs/migrations.md). A
    revision that does not get its lock in time is rolled back and tried again. Raises
    SQLAlchemyError, also when it never did, and DatabaseOfAnother, which is one.
    """
    for last in (False,) * (tries - 1) + (True,):
        try:
            config = alembic_config(service, database_url)
            config.attributes["leaves_what_is_newer_of"] = service
            command.upgrade(config, "head")
            return
        except OperationalError as error:
            if last or getattr(error.orig, "pgcode", None) not in _TRY_AGAIN:
                raise
            log.warning("migration_waits_for_a_lock", service=service)
        time.sleep(_PAUSE_SECONDS)


def run_environment(metadata: MetaData) -> None:
    """The whole of a service's `migrations/env.py`."""
    if context.is_offline_mode():
        _render(metadata)
        return
    engine = create_engine(
        make_url(context.config.attributes["database_url"]).set(drivername="postgresql+psycopg2"),
        poolclass=pool.NullPool,
        connect_args=KEEP_ALIVE,
    )
    with engine.connect() as connection:
        _await_turn(connection)
        connection.exec_driver_sql(f"set lock_timeout = '{LOCK_TIMEOUT}'")
        connection.commit()
        if not _is_left(connection, metadata):
            context.configure(
                connection=connection, target_metadata=metadata, transaction_per_migration=True
            )
            with context.begin_transaction():
                context.run_migrations()
            _ensure_whole(connection, metadata)
        connection.exec_driver_sql("select pg_advisory_unlock(4242)")
        connection.commit()
    engine.dispose()


def _await_turn(connection: Connection) -> None:
    """Two migrations at once wait for each other here instead of failing half-way.

    It asks again and again, with no statement under way meanwhile: an index that the other one
    builds `concurrently` would wait for that as well, and one of both be cancelled as a deadlock.
    """
    is_told = False
    while not connection.exec_driver_sql(_TAKE_TURN).scalar_one():
        connection.commit()
        if not is_told:
            # Also of a process that was killed: its statement goes on at the server to its end.
            service = context.config.attributes.get("leaves_what_is_newer_of")
            pid = connection.exec_driver_sql(_WHOSE_TURN).scalar()
            connection.commit()
            log.warning("migration_waits_for_another", service=service, of_process=pid)
            is_told = True
        time.sleep(_TURN_PAUSE_SECONDS)


def _is_left(connection: Connection, metadata: MetaData) -> bool:
    """Whether a newer release has migrated this database, to a revision that is unknown here.

    What tells it from any other database is that all is there which this release needs: the newer
    one may take away only what this one no longer knows. Raises DatabaseOfAnother.
    """
    service = context.config.attributes.get("leaves_what_is_newer_of")
    if service is None:
        return False
    found = set(MigrationContext.configure(connection).get_current_heads())
    unknown = found - {script.revision for script in context.script.walk_revisions()}
    connection.commit()
    if unknown:
        _ensure_whole(connection, metadata)
        said, revision = "a newer release migrated it; left as it is", ", ".join(sorted(unknown))
        log.warning("database_is_newer", service=service, revision=revision, said=said)
    return bool(unknown)


def _ensure_whole(connection: Connection, metadata: MetaData) -> None:
    """At the newest revision, or a later one, all is there that this release needs. Raises
    DatabaseOfAnother."""
    service = context.config.attributes.get("leaves_what_is_newer_of")
    if service is None:
        return
    missing = lacking(metadata, connection.exec_driver_sql(COLUMNS).all())
    revision = ", ".join(sorted(MigrationContext.configure(connection).get_current_heads()))
    connection.commit()
    if missing:
        log.error("database_of_another", service=service, revision=revision, lacks=missing[:5])
        raise DatabaseOfAnother(f"it is at revision {revision}, and has no {missing[0]}")


def _render(metadata: MetaData) -> None:
    """As SQL, for whoever wants to read it first, and for the check of what it locks."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    context.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def outside_transaction() -> Iterator[None]:
    """For statements `concurrently`: they hold nobody up, and wait for old transactions as long as
    it takes. They must be safe to repeat, since what is done of them stays done."""
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        try:
            yield
        finally:
            op.execute(f"set lock_timeout = '{LOCK_TIMEOUT}'")


def create_index_concurrently(
    name: str, table: str, columns: str, *, unique: bool = False, where: str = ""
) -> None:
    """An index on a table that is in use. One that was left half-made is made anew.

    One that can't be made is taken away again: a unique one would refuse rows all the same.
    """
    kind = "unique index" if unique else "index"
    only = f" where {where}" if where else ""
    with outside_transaction():
        op.execute(f"drop index concurrently if exists {name}")
        try:
            op.execute(f"create {kind} concurrently {name} on {table} ({columns}){only}")
        except DBAPIError:
            op.execute(f"drop index concurrently if exists {name}")
            raise


_PARTITION_WITHOUT = """
select inhrelid::regclass::text from pg_inherits
where inhparent = to_regclass(:table) and not exists (
    select 1 from pg_index join pg_inherits its on its.inhrelid = indexrelid
    where indrelid = pg_inherits.inhrelid and its.inhparent = to_regclass(:index)
)
order by 1 limit 1
"""


def create_index_on_partitions(name: str, table: str, definition: str) -> None:
    """An index on a partitioned table that is in use, built on each partition `concurrently`.

    `definition` is what follows the table's name. A partition that comes meanwhile has it from the
    beginning, under a name of PostgreSQL's, since the table's own index, which is empty, comes
    first. So each time it is asked anew which one lacks it: some may have left meanwhile.
    """
    op.execute(f"create index if not exists {name} on only {table} {definition}")
    if op.get_context().as_sql:
        return
    names = {"table": table, "index": name}
    while partition := op.get_bind().execute(text(_PARTITION_WITHOUT), names).scalar():
        its = f"{name}_{partition.removeprefix(table).strip('_')}"
        with outside_transaction():
            op.execute(f"drop index concurrently if exists {its}")
            op.execute(f"create index concurrently {its} on {partition} {definition}")
        op.execute(f"alter index {name} attach partition {its}")


def backfill(statement: str) -> None:
    """Run an update of a few thousand rows, with a limit of its own, until it finds none.

    Each run is a transaction, so that no row is locked for long.
    """
    with op.get_context().autocommit_block():
        if op.get_context().as_sql:
            op.execute(statement)
            return
        connection = op.get_bind()
        while connection.execute(text(statement)).rowcount > 0:
            time.sleep(_BACKFILL_PAUSE_SECONDS)
