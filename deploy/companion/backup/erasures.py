"""Deleted accounts across a restore: what was deleted after a backup is deleted again.

A backup brings back whoever was deleted since. Who that is stands in auth's database alone, which
is lost just then; so the list is kept outside of it, in a file that holds ids and no person's data.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from deploy.companion import console_settings
from deploy.companion.backup.estate import Estate
from deploy.companion.data_dir import replace_private
from deploy.companion.databases import connect
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from services.auth.domain.erasure import Erasure
from services.auth.domain.errors import AccountGone
from services.auth.settings import Settings
from services.auth.wiring import wire
from shared.erasure import ErasureId
from shared.errors import ExpectedFailure
from shared.ids import UserId
from shared.values import dataclass

_ALL = "select id, user_id, receipt_hash, requested_at from erasure order by requested_at"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a list of erasures; `refused` by the reason of each."""

    again: Sequence[UserId]
    not_there: Sequence[UserId]
    refused: Mapping[UserId, str]


def keep(estate: Estate, file: Path) -> int:
    """Add the erasures of auth's database to a file; answers how many it holds then.

    Raises CompanionError.
    """
    known = {erasure.id: erasure for erasure in read(file)} if file.exists() else {}
    connection = connect(estate.databases["auth"])
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(_ALL)
        for id_, user_id, receipt_hash, at in cursor.fetchall():
            erasure = ErasureId(UUID(str(id_)))
            known[erasure] = Erasure(erasure, UserId(UUID(str(user_id))), bytes(receipt_hash), at)
    try:
        replace_private(file, "".join(_line(one) for one in known.values()))
    except OSError as error:
        raise CompanionError(
            f"The list of deleted accounts can't be written to {file}: {error.strerror}."
        ) from error
    return len(known)


def read(file: Path) -> list[Erasure]:
    """Raises CompanionError."""
    try:
        return [_erasure(line) for line in file.read_text("utf-8").splitlines() if line]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompanionError(f"The list of deleted accounts can't be read from {file}.") from error


def replay(settings: Settings, erasures: Iterable[Erasure]) -> Replayed:
    """Delete those who came back, as they themselves once did. Raises CompanionError."""
    try:
        return asyncio.run(_replay(settings, erasures))
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def _replay(settings: Settings, erasures: Iterable[Erasure]) -> Replayed:
    again: list[UserId] = []
    gone: list[UserId] = []
    refused: dict[UserId, str] = {}
    async with wire(settings) as wired:
        for erasure in erasures:
            try:
                await wired.actions.delete_account.again(erasure)
                again.append(erasure.user_id)
            except AccountGone:
                gone.append(erasure.user_id)
            except ExpectedFailure as failure:
                if failure.retryable:
                    raise
                # The only owner of an organisation once more: somebody must decide about that.
                refused[erasure.user_id] = failure.code
    return Replayed(again, gone, refused)


def settings_of(installation: Installation) -> Settings:
    """auth's settings in the embedded default."""
    return console_settings.settings_of_installation("auth", Settings, installation)


def settings_of_deployment(secrets: Path) -> Settings:
    """auth's settings in the deployment with these secrets."""
    return console_settings.settings_of_deployment("auth", Settings, secrets)


def _line(erasure: Erasure) -> str:
    return (
        json.dumps(
            {
                "id": str(erasure.id),
                "user_id": str(erasure.user_id),
                "receipt_hash": erasure.receipt_hash.hex(),
                "requested_at": erasure.requested_at.isoformat(),
            }
        )
        + "\n"
    )


def _erasure(line: str) -> Erasure:
    row = json.loads(line)
    return Erasure(
        ErasureId(UUID(row["id"])),
        UserId(UUID(row["user_id"])),
        bytes.fromhex(row["receipt_hash"]),
        datetime.fromisoformat(row["requested_at"]),
    )
