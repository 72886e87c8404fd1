"""What the billing team's own tools may read, and that it is all they may do."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.sql import SQL, Identifier

from deploy.companion import reporting
from deploy.companion.engines.postgres import READERS
from deploy.companion.errors import CompanionError
from services.billing.actions import Actions
from services.billing.domain.payment import Booking
from shared.db.database import Database
from shared.ids import UserId
from tests.integration.billing.plans import STAFF, order
from tests.support.billing import a_usage
from tests.support.engines import PostgresServer

DOC = (Path(__file__).parents[3] / "docs" / "reporting.md").read_text()
READER = "reporting_test_reader"
_VIEWS = """
select table_name, column_name from information_schema.columns
where table_schema = 'reporting' order by table_name, ordinal_position
"""
_TABLES = """
select schemaname, tablename from pg_tables
where schemaname not in ('pg_catalog', 'information_schema')
"""


@pytest.fixture
def reader(
    database_url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    """A session of a login that `companion reporting create` has made."""
    monkeypatch.setattr(reporting, "database_name", lambda _: urlsplit(database_url).path[1:])
    password = secrets.token_urlsafe(16)
    superuser = postgres_server.engine.superuser_url
    reporting.create_login(superuser, READER, "another password")
    reporting.create_login(superuser, READER, password)
    where = urlsplit(database_url)
    connection = psycopg2.connect(
        host=where.hostname,
        port=where.port,
        dbname=where.path[1:],
        user=READER,
        password=password,
    )
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()
        with psycopg2.connect(superuser + where.path) as admin, admin.cursor() as cursor:
            cursor.execute(SQL("drop role {}").format(Identifier(READER)))
        admin.close()


@pytest.fixture
def cursor(reader: Connection) -> Cursor:
    return reader.cursor()


def columns(cursor: Cursor) -> dict[str, list[str]]:
    cursor.execute(_VIEWS)
    found: dict[str, list[str]] = {}
    for view, column in cursor.fetchall():
        found.setdefault(view, []).append(column)
    return found


async def test_every_view_can_be_read(cursor: Cursor, actions: Actions, database: Database) -> None:
    await actions.record_usage([a_usage(), a_usage()])
    await actions.link_ledger()
    views = columns(cursor)
    assert {"usage", "usage_daily", "usage_corrections", "invoices", "prices"} <= set(views)
    counts = {}
    for view in views:
        cursor.execute(SQL("select count(*) from {}").format(Identifier(view)))
        counts[view] = (cursor.fetchone() or [None])[0]
    assert (counts["usage"], counts["usage_daily"], counts["charges"]) == (2, 2, 0)


async def test_no_table_can_be_read_and_nothing_written(cursor: Cursor, database: Database) -> None:
    tables = await database.fetch(_TABLES)
    assert len(tables) > 30
    # What a session may ask for does not widen what it may do.
    cursor.execute("set default_transaction_read_only = off")
    for row in tables:
        table = Identifier(row["schemaname"], row["tablename"])
        for statement in ("select * from {} limit 1", "delete from {}", "truncate {}"):
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(SQL(statement).format(table))
    for statement in (
        "delete from reporting.usage",
        "update reporting.subscriptions set tier = 'enterprise'",
        "insert into reporting.plan_prices values ('pro', now(), 0, null, now())",
        "create table reporting.mine (n int)",
        "create table public.mine (n int)",
        "create temporary table mine (n int)",
        "create schema mine",
        "drop view reporting.usage",
        "set role companion",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        "select pg_advisory_lock(4246, 1)",
        "select pg_try_advisory_xact_lock(1)",
        "select nextval(c.oid) from pg_class c where relkind = 'S' limit 1",
        "select pg_read_file('postgresql.conf')",
        "copy (select 1) to program 'true'",
        "create role mine",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            cursor.execute(statement)


async def test_payments_are_shown_without_what_people_wrote(
    cursor: Cursor, actions: Actions, database: Database, ada: UserId
) -> None:
    asked = await order(actions, ada, "pro")
    await actions.mark_paid(asked, by=STAFF, received_microusd=8_900_000)
    booking = Booking(ada, -150, "Ada Lovelace, her account", "for Ada")
    await actions.book_payment(booking, by=STAFF)
    await database.execute(
        "insert into payment (id, holder_id, is_organisation, kind, state, provider, reference,"
        " amount_microusd, asked_by, created_at)"
        " values ($1, $1, false, 'renewal', 'unused', 'stripe', 'in_1', 9000000, $1, now())",
        ada,
    )
    cursor.execute(
        "select kind, state, provider, reference, amount_microusd from payments"
        " where holder_id = %s order by amount_microusd",
        [str(ada)],
    )
    assert cursor.fetchall() == [
        ("refund", "paid", "manual", None, -1_500_000),
        ("order", "paid", "manual", None, 8_900_000),
        ("renewal", "unused", "stripe", "in_1", 9_000_000),
    ]
    cursor.execute("select sum(amount_microusd) from payments where state in ('paid', 'unused')")
    account = (await actions.show_balance.of(ada)).account
    assert cursor.fetchone() == (account.paid_microusd - account.returned_microusd,)


def test_a_session_is_read_only_and_short_by_default(cursor: Cursor) -> None:
    for name, value in (
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "1min"),
        ("search_path", "reporting"),
    ):
        cursor.execute(SQL("show {}").format(Identifier(name)))
        assert cursor.fetchone() == (value,)
    with pytest.raises(errors.ReadOnlySqlTransaction):
        cursor.execute("create temporary table mine (n int)")


def test_the_page_names_every_view_and_every_column(cursor: Cursor) -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOC, re.MULTILINE | re.DOTALL))
    views = columns(cursor)
    told = {
        name: {
            column
            for line in text.splitlines()
            if line.startswith("| `")
            for column in re.findall(r"`(\w+)`", line.split("|")[1])
        }
        for name, text in sections.items()
        if name in views
    }
    assert told == {view: set(names) for view, names in views.items()}


@pytest.mark.parametrize("name", ["companion", "Robert'); --", "pg_monitor", "", "ö", READERS])
def test_a_role_that_is_no_reader_is_left_alone(
    name: str, reader: Connection, postgres_server: PostgresServer
) -> None:
    with pytest.raises(CompanionError):
        reporting.create_login(postgres_server.engine.superuser_url, name, "a long password")
    with reader.cursor() as cursor:
        cursor.execute("select rolcanlogin from pg_roles where rolname = %s", (READERS,))
        assert cursor.fetchone() == (False,)


def test_who_may_not_make_roles_is_told_what_to_do(
    reader: Connection, postgres_server: PostgresServer
) -> None:
    with pytest.raises(CompanionError) as refused:
        reporting.create_login(postgres_server.url, "somebody_else", "a long password")
    assert "docs/reporting.md" in str(refused.value.__dict__)
    with pytest.raises(CompanionError):
        reporting.create_login(postgres_server.engine.superuser_url, READER, "short")
