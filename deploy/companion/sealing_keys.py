"""Peppers and sealing keys, which lie in files by version: a new one joins, older ones leave.

Running services read the files again within a second. A new version is known for a while before
anything is made with it (`from`), so that no process meets what it can't open; an older one leaves
once nothing that is kept needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class

from deploy.companion.backup.estate import SECRETS_VARIABLE
from deploy.companion.data_dir import DataDir
from deploy.companion.databases import connect
from deploy.companion.errors import CompanionError
from deploy.companion.settings import Settings
from shared.locked_file import alone_with, replace_whole
from shared.sealing import KeysByVersion, Sealer, Unsealable, newest
from shared.values import dataclass

SHOWN_SECONDS = 5.0
"""How long a new version is known before it is used: processes look once a second."""

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of secrets under one kind of key, and what binds each to its row."""

    service: str
    table: str
    id: str
    column: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of secret with versions: its file, its list there, and what is made with it."""

    title: str
    variable: str
    file: Callable[[DataDir], Path]
    deployed: str
    """Its place below `COMPANION_SECRETS`."""
    entries: str
    field: str
    sealed: Sequence[Sealed] = ()
    service: str = ""
    in_use: str = ""
    """SQL that counts what needs a version, for what can't be sealed anew."""
    needed_for: str = ""


KINDS: Mapping[str, Kind] = {
    "webhooks": Kind(
        "keys that webhooks' secrets are sealed with",
        "BILLING_WEBHOOK_KEYS_FILE",
        lambda data: data.webhook_keys,
        "billing/webhook_keys.json",
        "sealing_keys",
        "key",
        (
            Sealed("billing", "webhook_endpoint", "id", "secret", "webhook secret"),
            Sealed("billing", "webhook_endpoint", "id", "old_secret", "webhook secret"),
        ),
    ),
    "utterances": Kind(
        "keys that kept utterances are sealed with",
        "VOICE_CACHE_KEYS_FILE",
        lambda data: data.utterance_keys,
        "voice/utterance_keys.json",
        "sealing_keys",
        "key",
    ),
    "second-factors": Kind(
        "keys that second factors and waiting mails are sealed with",
        "AUTH_SIGNING_KEYS_FILE",
        lambda data: data.signing_keys,
        "auth/signing_keys.json",
        "sealing_keys",
        "key",
        (
            Sealed("auth", "totp", "user_id", "sealed_secret", "totp"),
            Sealed("auth", "outgoing_mail", "id", "sealed_facts", "mail"),
        ),
    ),
    "refresh-peppers": Kind(
        "peppers of refresh tokens",
        "AUTH_SIGNING_KEYS_FILE",
        lambda data: data.signing_keys,
        "auth/signing_keys.json",
        "refresh_peppers",
        "pepper",
        service="auth",
        in_use="select count(*) from sign_in where pepper_version = %s and ended_at is null"
        " and expires_at > now()",
        needed_for="sign-ins; they end by themselves, the last after AUTH_REFRESH_ABSOLUTE_DAYS",
    ),
    "audit": Kind(
        "keys of the audit trail's chain",
        "AUTH_SIGNING_KEYS_FILE",
        lambda data: data.signing_keys,
        "auth/signing_keys.json",
        "audit_keys",
        "key",
        service="auth",
        in_use="select count(*) from audit_link where key_version = %s",
        needed_for="links, which are never made anew: keep it for as long as the trail is kept",
    ),
}


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many rows were sealed anew, and how many do not open."""

    anew: int
    broken: int


def kind(name: str) -> Kind:
    """Raises CompanionError."""
    if name not in KINDS:
        raise CompanionError(f"There are no {name}.", f"There are: {', '.join(KINDS)}.")
    return KINDS[name]


def file_of(kind_: Kind) -> Path:
    """The file that the environment names, the deployment's, or the one of the data directory."""
    if named := os.environ.get(kind_.variable):
        path = Path(named)
    elif folder := os.environ.get(SECRETS_VARIABLE):
        path = Path(folder) / kind_.deployed
    else:
        path = kind_.file(DataDir(Settings.from_environment().data_dir))
    # What a link names is replaced, not the link.
    return path.resolve()


def versions(path: Path, kind_: Kind) -> list[dict[str, Any]]:
    """The entries, the newest first. Raises CompanionError."""
    return sorted(_read(path, kind_)[kind_.entries], key=lambda entry: -int(entry["version"]))


def add(path: Path, kind_: Kind, *, shown_seconds: float = SHOWN_SECONDS) -> int:
    """Put a new version into the file; it is used once it was shown for so long."""
    with _alone(path):
        document = _read(path, kind_)
        entries = document[kind_.entries]
        version = max(int(entry["version"]) for entry in entries) + 1
        secret = b64encode(secrets.token_bytes(32)).decode()
        begins = int(time.time() + shown_seconds)
        entries.append({"version": version, kind_.field: secret, "from": begins})
        replace_whole(path, json.dumps(document, indent=2) + "\n")
        return version


def drop(path: Path, kind_: Kind, version: int) -> None:
    """Take a version out. Raises CompanionError when it is unknown, or the one in use."""
    with _alone(path):
        document = _read(path, kind_)
        entries = document[kind_.entries]
        kept = [entry for entry in entries if int(entry["version"]) != version]
        if len(kept) == len(entries):
            raise CompanionError(f"There is no version {version}.")
        used = newest(keys_of(entries, kind_))
        if version == used:
            raise CompanionError(f"Version {version} is the one in use.", "Rotate first.")
        if version > used:
            # Some process may seal with it before it has seen that it is gone.
            raise CompanionError(f"Version {version} is about to be used.", "Rotate once more.")
        document[kind_.entries] = kept
        replace_whole(path, json.dumps(document, indent=2) + "\n")


def keys_of(entries: Sequence[Mapping[str, Any]], kind_: Kind) -> KeysByVersion:
    """The keys as a service reads them."""
    keys = {int(entry["version"]): b64decode(entry[kind_.field]) for entry in entries}
    return KeysByVersion.of(keys, list(entries))


def reseal(databases: Mapping[str, str], path: Path, kind_: Kind) -> Resealed:
    """Seal everything with the newest key that has an older one. Safe to stop and to repeat."""
    sealer = Sealer(keys_of(versions(path, kind_), kind_))
    target = newest(sealer.keys)
    anew = broken = 0
    for place in kind_.sealed:
        connection = connect(databases[place.service])
        with contextlib.closing(connection), connection.cursor() as cursor:
            done = _reseal(cursor, place, sealer, target)
        anew, broken = anew + done.anew, broken + done.broken
    return Resealed(anew, broken)


def still_needed(databases: Mapping[str, str], kind_: Kind, version: int) -> int:
    """How many rows nobody could use without this version."""
    total = 0
    for place in kind_.sealed:
        sql = f"select count(*) from {place.table} where {_version_of(place)} = %s"  # noqa: S608
        total += _count(databases[place.service], sql, version)
    if kind_.in_use:
        total += _count(databases[kind_.service], kind_.in_use, version)
    return total


def _version_of(place: Sealed) -> str:
    return f"('x' || encode(substring({place.column} for 4), 'hex'))::bit(32)::int"


def _reseal(cursor: Cursor, place: Sealed, sealer: Sealer, target: int) -> Resealed:
    anew = broken = 0
    after = UUID(int=0)
    while True:
        cursor.execute(
            f"select {place.id}::text, {place.column} from {place.table}"  # noqa: S608 - ours
            f" where {place.column} is not null and {_version_of(place)} <> %s"
            f" and {place.id} > %s::uuid order by {place.id} limit %s",
            (target, str(after), _PAGE),
        )
        rows = cursor.fetchall()
        for text, sealed in rows:
            after = UUID(str(text))
            try:
                secret = sealer.open(place.purpose, after, bytes(sealed))
            except Unsealable:
                broken += 1
                continue
            # Only what is still as it was read: its owner may have changed it meanwhile.
            cursor.execute(
                f"update {place.table} set {place.column} = %s"  # noqa: S608 - ours
                f" where {place.id} = %s::uuid and {place.column} = %s",
                (sealer.seal(place.purpose, after, secret), str(after), bytes(sealed)),
            )
            anew += cursor.rowcount
        if len(rows) < _PAGE:
            return Resealed(anew, broken)


def _count(url: str, sql: str, version: int) -> int:
    connection = connect(url)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql, (version,))
        return int(cursor.fetchall()[0][0])


@contextlib.contextmanager
def _alone(path: Path) -> Any:
    try:
        with alone_with(path):
            yield
    except OSError as error:
        raise CompanionError(f"{path} can't be changed: {error.strerror or error}.") from error


def _read(path: Path, kind_: Kind) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        # As a service would; a file without any is as bad as none.
        newest(keys_of(document[kind_.entries], kind_))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompanionError(
            f"The {kind_.title} can't be read from {path}.", "Restore it."
        ) from error
    return document
