"""The services' databases on one PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.sql import SQL, Identifier

from deploy.companion.errors import CompanionError


def database_name(service: str) -> str:
    """The database of one service."""
    return f"companion_{service}"


def database_url(server_url: str, name: str) -> str:
    """The URL of one database on a server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def ensure_databases(url: str, names: Iterable[str]) -> list[str]:
    """Create the databases that are missing on the server; returns their names."""
    connection = connect(url)
    try:
        missing = sorted(set(names) - _existing(connection))
        return [name for name in missing if _create(connection, name)]
    finally:
        connection.close()


def existing_databases(url: str) -> set[str]:
    """The names of all databases on the server. Raises CompanionError when it can't be reached."""
    connection = connect(url)
    try:
        return _existing(connection)
    finally:
        connection.close()


def connect(url: str) -> Connection:
    """A connection for administration, outside any transaction. Raises CompanionError."""
    # A server's URL names no database; every server has this one.
    try:
        where = urlsplit(url)
        _ = where.port
        target = url if where.path.strip("/") else database_url(url, "postgres")
        connection = psycopg2.connect(target, connect_timeout=5)
    except (ValueError, psycopg2.ProgrammingError) as error:
        # What it is stays unsaid: it may hold a password.
        raise CompanionError(
            "The address of a database can't be understood.", "Use postgresql://user:password@host."
        ) from error
    except psycopg2.OperationalError as error:
        raise CompanionError(
            f"PostgreSQL at {where.hostname}:{where.port or 5432} can't be used: "
            f"{str(error).strip().splitlines()[0]}",
            "Check DATABASE_URL and that the server runs.",
        ) from error
    connection.autocommit = True
    return connection


def _existing(connection: Connection) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {str(name) for (name,) in cursor.fetchall()}


def _create(connection: Connection, name: str) -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    except (errors.DuplicateDatabase, errors.UniqueViolation):
        # Somebody else was faster, which is as good.
        return False
    except errors.InsufficientPrivilege as error:
        raise CompanionError(
            f"The role of DATABASE_URL may not create the database {name}.",
            "Grant it CREATEDB, or create the databases companion_<service> yourself.",
        ) from error
    return True
