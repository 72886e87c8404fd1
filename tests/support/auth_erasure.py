"""Erasures in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.auth.domain.erasure import Erasure
from services.auth.domain.user import User
from shared.erasure import ErasureId
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory


class MemoryErasures:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def hold_account(self, user_id: UserId) -> None:
        """Nothing runs beside a test."""

    async def hold_credentials_of(self, user_id: UserId) -> Sequence[UUID]:
        devices = self._memory.devices.values()
        tokens = self._memory.personal_tokens.values()
        return [
            *(d.id for d in devices if d.user_id == user_id and d.ended_at is None),
            *(t.id for t in tokens if t.user_id == user_id and t.revoked_at is None),
        ]

    async def delete_account(self, user: User) -> None:
        self._memory.accounts.pop(user.id)
        for device in [d for d in self._memory.devices.values() if d.user_id == user.id]:
            del self._memory.devices[device.id]

    async def add(self, erasure: Erasure) -> None:
        self._memory.erasures[erasure.id] = erasure

    async def find(self, receipt_hash: bytes) -> Erasure | None:
        found = self._memory.erasures.values()
        return next((one for one in found if one.receipt_hash == receipt_hash), None)

    async def hold(self, erasure_id: ErasureId) -> Erasure | None:
        return self._memory.erasures.get(erasure_id)

    async def save(self, erasure: Erasure) -> None:
        self._memory.erasures[erasure.id] = erasure

    async def unfinished(
        self, since: datetime, before: datetime, *, most: int
    ) -> Sequence[Erasure]:
        found = self._memory.erasures.values()
        late = [one for one in found if one.missing and since <= one.requested_at < before]
        return late[:most]

    async def latest(self, *, most: int) -> Sequence[Erasure]:
        return list(self._memory.erasures.values())[::-1][:most]

    async def forget_before(self, at: datetime, *, most: int) -> int:
        found = self._memory.erasures.values()
        old = [one.id for one in found if one.completed_at and one.completed_at < at][:most]
        for id_ in old:
            del self._memory.erasures[id_]
        return len(old)


class VendorsVoices:
    """Voices that users had made. Remembers by whose token they were removed."""

    def __init__(self, *, left: int | None = 0) -> None:
        self.left = left
        self.asked: list[tuple[UserId, str]] = []

    async def remove_all(self, user_id: UserId, *, access_token: str) -> int | None:
        self.asked.append((user_id, access_token))
        return self.left
