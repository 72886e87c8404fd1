"""A migration meets a database that is in use: it waits for a moment, gives way, and comes back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg2.errors import DeadlockDetected
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from deploy.companion import migrate
from deploy.companion.errors import CompanionError
from shared.db import migrations
from shared.messaging import prepare
from tests.support.engines import PostgresServer
from tests.support.waiting import until

_FIRST = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "0001", None, None, None
def upgrade():
    op.execute("create table thing (id bigint primary key, done boolean)")
    op.execute("insert into thing select n, null from generate_series(1, 25) as n")
"""
_SECOND = """
from alembic import op
from shared.db.migrations import backfill, create_index_concurrently
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    op.execute("alter table thing add column if not exists colour text")
    create_index_concurrently("ix_thing_colour", "thing", "colour", where="colour is not null")
    backfill(
        "update thing set done = false where id in"
        " (select id from thing where done is null limit 10)"
    )
"""
_INDEX = """
from alembic import op
from shared.db.migrations import create_index_concurrently
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
def upgrade():
    create_index_concurrently("ix_thing_done", "thing", "done")
"""
_UNIQUE = """
from alembic import op
from shared.db.migrations import create_index_concurrently
revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None
def upgrade():
    create_index_concurrently("ux_thing_done", "thing", "done", unique=True)
"""
_PARTED = """
from alembic import op
from shared.db.migrations import create_index_on_partitions
revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None
def upgrade():
    create_index_on_partitions("ix_parted_owner", "parted", "(owner) where owner is not null")
"""
_PROGRAM = """
import sys
from pathlib import Path
from shared.db import migrations
migrations._SERVICES = Path(sys.argv[1])
migrations.upgrade("toy", sys.argv[2])
"""
_ENV = """
from sqlalchemy import MetaData
from shared.db.migrations import run_environment
run_environment(MetaData())
"""


@pytest.fixture
def url(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A database at the first revision of a service of two, which locks for a tenth of a second."""
    versions = tmp_path / "toy" / "storage" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(_ENV)
    (versions / "0001_first.py").write_text(_FIRST)
    monkeypatch.setattr(migrations, "_SERVICES", tmp_path)
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(migrations, "_PAUSE_SECONDS", 0.1)
    with postgres_server.fresh_database() as fresh:
        migrations.upgrade("toy", fresh)
        (versions / "0002_second.py").write_text(_SECOND)
        yield fresh


def test_indexes_are_built_beside_the_service_and_rows_changed_in_pieces(url: str) -> None:
    migrations.upgrade("toy", url)
    assert rows(url, "select count(*) from thing where done is false") == [(25,)]
    assert rows(
        url, "select indisvalid from pg_index where indexrelid::regclass::text = 'ix_thing_colour'"
    ) == [(True,)]
    migrations.upgrade("toy", url)


def test_an_index_on_a_partitioned_table_is_built_part_by_part_and_finished_if_begun(
    url: str, tmp_path: Path
) -> None:
    versions = tmp_path / "toy" / "storage" / "migrations" / "versions"
    (versions / "0003_parted.py").write_text(_PARTED)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "create table parted (id bigint, owner bigint) partition by range (id);"
            " create table parted_default partition of parted default;"
            " create table parted_1 partition of parted for values from (0) to (10);"
            " create table parted_2 partition of parted for values from (10) to (20);"
            " insert into parted select n, n from generate_series(0, 25) as n;"
            # As a try that was killed has left it.
            " create index ix_parted_owner on only parted (owner) where owner is not null;"
            " create index ix_parted_owner_2 on parted_2 (id);"
            # And one that came since, of which PostgreSQL chose the index's name.
            " create table parted_4 partition of parted for values from (40) to (50)"
        )
    migrations.upgrade("toy", url)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("create table parted_3 partition of parted for values from (30) to (40)")
    sql = "select indrelid::regclass::text, indisvalid from pg_index order by indexrelid"
    found = [
        row
        for row in rows(url, sql.replace("from", ", pg_get_indexdef(indexrelid) from"))
        if "(owner) WHERE" in str(row[2])
    ]
    valid = {table: valid for table, valid, _ in found}
    assert valid == dict.fromkeys(
        ("parted", "parted_default", "parted_1", "parted_2", "parted_3", "parted_4"), True
    )
    assert len(found) == 6
    migrations.upgrade("toy", url)


def test_a_migration_that_gets_no_lock_gives_way_and_is_tried_again(url: str) -> None:
    with psycopg2.connect(url) as reader, reader.cursor() as cursor:
        cursor.execute("select count(*) from thing")
        began = time.monotonic()
        with pytest.raises(OperationalError, match="lock timeout"):
            migrations.upgrade("toy", url, tries=2)
        # Nothing is left of it, and nobody was kept from reading for long.
        assert time.monotonic() - began < 5
        assert rows(url, "select version_num from alembic_version") == [("0001",)]
        threading.Timer(0.3, reader.commit).start()
        migrations.upgrade("toy", url)
    reader.close()
    assert rows(url, "select version_num from alembic_version") == [("0002",)]


def test_an_index_that_can_not_be_made_is_taken_away_and_refuses_no_row(
    url: str, tmp_path: Path
) -> None:
    versions = tmp_path / "toy" / "storage" / "migrations" / "versions"
    (versions / "0003_unique.py").write_text(_UNIQUE)
    with pytest.raises(IntegrityError, match="could not create unique index"):
        migrations.upgrade("toy", url)
    assert rows(url, "select version_num from alembic_version") == [("0002",)]
    assert rows(url, "select to_regclass('ux_thing_done')") == [(None,)]


def test_a_deadlock_with_the_service_is_tried_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    run = command.upgrade

    def upgrade(config: Config, revision: str) -> None:
        tried.append(revision)
        if len(tried) == 1:
            raise OperationalError("alter table thing", {}, DeadlockDetected())
        run(config, revision)

    # As PostgreSQL says it.
    monkeypatch.setattr(DeadlockDetected, "pgcode", "40P01")
    monkeypatch.setattr(command, "upgrade", upgrade)
    migrations.upgrade("toy", url)
    assert len(tried) == 2
    assert rows(url, "select version_num from alembic_version") == [("0002",)]


async def test_two_at_once_take_turns_and_an_index_waits_for_nobody_who_waits(
    url: str, tmp_path: Path
) -> None:
    """As when a job is deleted, its statement goes on at the server, and another job comes."""
    (tmp_path / "toy" / "storage" / "migrations" / "versions" / "0002_second.py").write_text(_INDEX)
    first_told, second_told = tmp_path / "first", tmp_path / "second"
    builds = "select pid from pg_stat_activity where query like 'create index concurrently%'"
    waits = "select 1 from pg_stat_activity where wait_event = 'advisory'"
    writer = psycopg2.connect(url)
    with writer.cursor() as cursor:
        cursor.execute("insert into thing values (100, true)")
    with begun(tmp_path, url, first_told) as first:
        await until(lambda: rows(url, f"{builds} and wait_event_type = 'Lock'"))
        ((pid,),) = rows(url, builds)
        with begun(tmp_path, url, second_told) as second:
            await until(lambda: second_told.read_text() or rows(url, waits))
            writer.commit()
            writer.close()
            assert [one.wait(timeout=60) for one in (first, second)] == [0, 0]
    # Neither was cancelled as a deadlock, to begin its index anew.
    assert first_told.read_text() == ""
    (told,) = second_told.read_text().splitlines()
    assert "migration_waits_for_another" in told
    assert f"of_process={pid}" in told
    sql = "select indisvalid from pg_index where indexrelid = 'ix_thing_done'::regclass"
    assert rows(url, sql) == [(True,)]


def begun(services: Path, url: str, told: Path) -> subprocess.Popen[bytes]:
    """A migration in a process of its own, which tells what it has to say in a file."""
    words = (sys.executable, "-c", _PROGRAM, str(services), url)
    with told.open("w") as file:
        return subprocess.Popen(words, stdout=file)


def test_what_a_newer_release_migrated_is_left_as_it_is(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release before is started again on the newer tables: a rollback."""
    migrations.upgrade("toy", url)
    (tmp_path / "toy" / "storage" / "migrations" / "versions" / "0002_second.py").unlink()
    # As both ways to prepare a database do it: each container's, and `companion migrate`.
    monkeypatch.setattr(prepare, "service_database_url", lambda *_: url)
    monkeypatch.setattr(prepare, "declare_queues", lambda *_: None)
    monkeypatch.setattr(prepare, "import_module", lambda _: SimpleNamespace(listen=None))
    monkeypatch.setattr(migrate, "service_database_url", lambda *_: url)
    ways: list[Callable[[], None]] = [
        lambda: prepare.prepare("toy", url, "redis://nowhere", 0),
        lambda: migrate.migrate_all(url, ["toy"]),
    ]
    for do in ways:
        with capture_logs() as told:
            do()
        assert [(one["event"], one["service"], one["revision"]) for one in told] == [
            ("database_is_newer", "toy", "0002")
        ]
    assert rows(url, "select version_num from alembic_version") == [("0002",)]
    with pytest.raises(CommandError, match="0002"):
        command.downgrade(migrations.alembic_config("toy", url), "base")


_ENV_OF_ANOTHER = """
from sqlalchemy import Column, MetaData, Table, Text
from shared.db.migrations import run_environment
metadata = MetaData()
Table("thing", metadata, Column("colour", Text), Column("owner", Text))
run_environment(metadata)
"""


@pytest.mark.parametrize("is_unknown", [True, False])
def test_a_database_of_another_service_is_not_taken_for_its_own(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_unknown: bool
) -> None:
    """As when two services' addresses are exchanged: their revisions have the same numbers."""
    migrations.upgrade("toy", url)
    folder = tmp_path / "toy" / "storage" / "migrations"
    if is_unknown:
        (folder / "versions" / "0002_second.py").unlink()
    (folder / "env.py").write_text(_ENV_OF_ANOTHER)
    monkeypatch.setattr(migrate, "service_database_url", lambda *_: url)
    with (
        capture_logs() as told,
        pytest.raises(CompanionError, match=r"revision 0002, and has no thing\.owner"),
    ):
        migrate.migrate_all(url, ["toy"])
    assert [(one["event"], one["lacks"]) for one in told] == [
        ("database_of_another", ["thing.owner"])
    ]
    assert rows(url, "select version_num from alembic_version") == [("0002",)]


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()
