"""auth's audit trail from the console: read, verified, and told what the console does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic

from deploy.companion.errors import CompanionError
from deploy.companion.staff import auth_settings
from services.auth.actions.verify_audit import AuditVerdict
from services.auth.domain.audit import AuditEntry
from services.auth.domain.audit_chain import Head
from services.auth.wiring import wire
from shared.errors import ExpectedFailure
from shared.ids import UserId


async def verify(head: str | None) -> AuditVerdict:
    """Walk the whole chain. Raises CompanionError when it can't be read."""
    try:
        known = Head.parse(head) if head else None
    except ValueError as error:
        raise CompanionError(f"{head} is no head: {error}.") from error
    try:
        async with wire(auth_settings()) as wired:
            return await wired.actions.verify_audit(known)
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def entries(user_id: UUID | None, since: datetime | None, most: int) -> Sequence[AuditEntry]:
    """The newest entries, of one user or of everybody. Raises CompanionError."""
    try:
        async with wire(auth_settings()) as wired:
            read = wired.actions.read_audit
            if user_id is None:
                return await read.everybodys(since=since, most=most)
            found = await read(UserId(user_id), before=None, most=most)
            return [one for one in found if since is None or one.at >= since]
    except ExpectedFailure as failure:
        raise CompanionError(failure.message) from failure


async def note(action: str, **facts: Any) -> bool:
    """Note what was done on the console; False when the database can't be reached.

    What it is about has happened then all the same: signing keys are removed in an emergency, too.
    """
    try:
        async with wire(auth_settings()) as wired:
            await wired.actions.note_console_act(action, **facts)
    except (ExpectedFailure, CompanionError, pydantic.ValidationError):
        return False
    return True
