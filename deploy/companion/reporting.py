"""Logins that may read billing's reports with SQL, and nothing else."""

from __future__ import annotations

import re

from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extensions import encrypt_password
from psycopg2.sql import SQL, Identifier, Literal

from deploy.companion.databases import connect, database_name, database_url
from deploy.companion.engines.postgres import READERS
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SHORTEST_PASSWORD = 12


def administrator_url() -> str:
    """The server as somebody who may make roles, if we know anybody."""
    settings = Settings.from_environment()
    if settings.database_url:
        return settings.database_url
    return Installation.open(settings).postgres().superuser_url


def grant(server_url: str) -> None:
    """Make the group of readers and let it read the views; safe to run twice.

    Raises CompanionError.
    """
    with _billing(server_url) as cursor:
        _make_group(cursor)


def create_login(server_url: str, name: str, password: str) -> None:
    """Make a login that reads the views, or give it another password. Raises CompanionError."""
    if not _NAME.fullmatch(name) or name.startswith("pg_"):
        raise CompanionError(f"{name!r} is no name of a role.", "Use a-z, 0-9 and _.")
    if len(password) < _SHORTEST_PASSWORD:
        raise CompanionError(
            f"The password is shorter than {_SHORTEST_PASSWORD} characters.",
            "Let a password manager make one.",
        )
    with _billing(server_url) as cursor:
        _make_group(cursor)
        login, group = Identifier(name), Identifier(READERS)
        cursor.execute(
            "select rolsuper or not pg_has_role(rolname, %s, 'member')"
            " from pg_roles where rolname = %s",
            (READERS, name),
        )
        known = cursor.fetchone()
        # A role is a member of itself; the group's own is nobody's login.
        if name == READERS or (known is not None and known[0]):
            raise CompanionError(
                f"There is a role {name}, and it is no reader.", "Choose another name."
            )
        # Hashed here, because a failing statement is logged with its text.
        hashed = encrypt_password(password, name, cursor.connection, "scram-sha-256")
        verb = SQL("create" if known is None else "alter")
        cursor.execute(SQL("{} role {} login password {}").format(verb, login, Literal(hashed)))
        cursor.execute(SQL("grant {} to {}").format(group, login))
        # What a group is set to does not hold for its members.
        for setting, value in _DEFAULTS.items():
            cursor.execute(
                SQL("alter role {} set {} = {}").format(login, Identifier(setting), Literal(value))
            )


_DEFAULTS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "search_path": "reporting",
}


# What everybody may call and readers should not: large objects are written without any right to a
# table, and the services' own work waits for advisory locks.
_NOT_FOR_READERS = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'pg_catalog'::regnamespace
  and (proname in ('lo_creat', 'lo_create', 'lo_from_bytea')
       or proname ~ '^pg_(try_)?advisory_(xact_)?lock')
"""
_SERVICES_ROLES = """
select distinct tableowner from pg_tables where schemaname = 'public'
union select pg_get_userbyid(datdba) from pg_database where datname = current_database()
"""


def _make_group(cursor: Cursor) -> None:
    group = Identifier(READERS)
    cursor.execute("select 1 from pg_roles where rolname = %s", (READERS,))
    if cursor.fetchone() is None:
        cursor.execute(SQL("create role {} nologin").format(group))
    cursor.execute(SQL("grant usage on schema reporting to {}").format(group))
    cursor.execute(SQL("grant select on all tables in schema reporting to {}").format(group))
    cursor.execute("select current_database()")
    ((database,),) = cursor.fetchall()
    # Everybody may make temporary tables unless they are told otherwise.
    cursor.execute(SQL("revoke temporary on database {} from public").format(Identifier(database)))
    _keep_functions_to_services(cursor)


def _keep_functions_to_services(cursor: Cursor) -> None:
    """Only a superuser may; without one they stay everybody's."""
    cursor.execute("select rolsuper from pg_roles where rolname = current_user")
    if cursor.fetchone() != (True,):
        return
    cursor.execute(_SERVICES_ROLES)
    roles = SQL(", ").join(Identifier(role) for (role,) in cursor.fetchall())
    cursor.execute(_NOT_FOR_READERS)
    functions = SQL(", ").join(SQL(signature) for (signature,) in cursor.fetchall())
    cursor.execute(SQL("grant execute on function {} to {}").format(functions, roles))
    cursor.execute(SQL("revoke execute on function {} from public").format(functions))


class _billing:  # noqa: N801 - it is called like a function
    """A cursor on billing's database, whose failures say what to do."""

    def __init__(self, server_url: str) -> None:
        self._connection = connect(database_url(server_url, database_name("billing")))

    def __enter__(self) -> Cursor:
        return self._connection.cursor()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._connection.close()
        if isinstance(error, errors.InsufficientPrivilege):
            raise CompanionError(
                "The role of DATABASE_URL may not make roles, or not grant this one.",
                "Run the SQL in docs/reporting.md as an administrator of the server.",
            ) from error
        if isinstance(error, errors.InvalidSchemaName):
            raise CompanionError(
                "Billing's database has no reports yet.", "Run `companion migrate` first."
            ) from error
