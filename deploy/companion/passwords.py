"""New passwords for the embedded engines, while nothing runs."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import asdict
from pathlib import Path

from psycopg2.extensions import encrypt_password
from psycopg2.sql import SQL, Identifier, Literal

from deploy.companion.alone import engines_alone
from deploy.companion.data_dir import replace_private
from deploy.companion.databases import connect
from deploy.companion.engines.postgres import ROLE, SUPERUSER
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.prepare import Passwords, read_passwords
from deploy.companion.previous_run import leftovers, sole_run


def rotate(installation: Installation) -> None:
    """Give each engine a new password. Raises CompanionError while companion runs.

    Killed at any moment, the passwords that hold are those of the file, or `passwords.next.json`
    beside it has them and the next call goes on from there.
    """
    data = installation.data
    if data.is_new:
        raise CompanionError("This installation has no passwords yet.")
    with sole_run(data):
        if leftovers(data):
            raise CompanionError(
                "A run that ended without cleaning up left processes.", "Run `companion down`."
            )
        _put_back(data.passwords)
        draft = data.passwords.with_name("passwords.next.json")
        if not draft.exists():
            fresh = Passwords(*(secrets.token_urlsafe(24) for _ in range(3)))
            replace_private(draft, json.dumps(asdict(fresh), indent=2))
        fresh = _read(draft)
        if installation.settings.embeds_postgres and data.has_database:
            _give(installation, fresh)
        # Valkey reads its password when it starts.
        draft.replace(data.passwords)


def _give(installation: Installation, fresh: Passwords) -> None:
    """Both in one transaction: there is no moment at which one holds and the other doesn't."""
    known = read_passwords(installation.data)
    try:
        with engines_alone(installation):
            connection = connect(installation.postgres().superuser_url)
            with contextlib.closing(connection), connection.cursor() as cursor:
                cursor.execute("begin")
                for role, password in (
                    (ROLE, fresh.postgres_role),
                    (SUPERUSER, fresh.postgres_superuser),
                ):
                    hashed = encrypt_password(password, role, connection, "scram-sha-256")
                    cursor.execute(
                        SQL("alter role {} password {}").format(Identifier(role), Literal(hashed))
                    )
                cursor.execute("commit")
    except CompanionError:
        # A call before this one may have come as far as the database, and no further.
        if not _holds(installation, fresh, known):
            raise


def _holds(installation: Installation, fresh: Passwords, known: Passwords) -> bool:
    path = installation.data.passwords
    # Whoever kills this while the others are tried would leave nobody who knows these.
    replace_private(_before(path), json.dumps(asdict(known), indent=2))
    replace_private(path, json.dumps(asdict(fresh), indent=2))
    try:
        with engines_alone(installation):
            # While the new ones lie in their draft, too: this one must not outlive that.
            _before(path).unlink()
            return True
    except CompanionError:
        return False
    finally:
        _put_back(path)


def _put_back(passwords: Path) -> None:
    """The passwords that held before others were tried, if a call ended while it tried them."""
    with contextlib.suppress(FileNotFoundError):
        _before(passwords).replace(passwords)


def _before(passwords: Path) -> Path:
    return passwords.with_name("passwords.before.json")


def _read(draft: Path) -> Passwords:
    try:
        return Passwords(**json.loads(draft.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CompanionError(
            f"The new passwords can't be read from {draft}.", "Restore it from a backup."
        ) from error
