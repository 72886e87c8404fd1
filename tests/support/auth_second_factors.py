"""Second factors kept in memory, and codes as an authenticator shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pyotp

from services.auth.domain.second_factor import Totp
from shared.ids import UserId

if TYPE_CHECKING:
    from tests.support.auth import Memory


def code_at(secret: str, at: datetime) -> str:
    """What an authenticator shows at a time."""
    return pyotp.TOTP(secret).at(int(at.timestamp()))


def wrong_code(secret: str, at: datetime) -> str:
    """Six digits that are no code of around this time."""
    near = {pyotp.TOTP(secret).at(int(at.timestamp()) + 30 * step) for step in range(-3, 4)}
    return next(code for code in map("{:06}".format, range(100)) if code not in near)


def scanned(uri: str) -> pyotp.TOTP:
    """What an authenticator makes of a picture."""
    found = pyotp.parse_uri(uri)
    assert isinstance(found, pyotp.TOTP)
    assert parse_qs(urlsplit(uri).query)["secret"] == [found.secret]
    return found


class MemorySecondFactors:
    """Like the table, it lets a user look as if they had a second factor once it is confirmed."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def totp_of(self, user_id: UserId) -> Totp | None:
        return self._memory.authenticators.get(user_id)

    async def active_since(self, user_id: UserId) -> datetime | None:
        totp = await self.totp_of(user_id)
        return totp.confirmed_at if totp else None

    async def begin(self, totp: Totp) -> bool:
        if await self.active_since(totp.user_id) is not None:
            return False
        self._memory.authenticators[totp.user_id] = totp
        return True

    async def confirm(self, totp: Totp) -> bool:
        known = await self.totp_of(totp.user_id)
        if known is None or known.is_active or known.created_at != totp.created_at:
            return False
        self._memory.authenticators[totp.user_id] = totp
        self._mark(totp.user_id, True)
        return True

    async def take_step(self, user_id: UserId, step: int) -> bool:
        known = await self.totp_of(user_id)
        if known is None or not known.is_active or known.last_step >= step:
            return False
        self._memory.authenticators[user_id] = replace(known, last_step=step)
        return True

    async def remove(self, user_id: UserId) -> bool:
        if await self.active_since(user_id) is None:
            return False
        del self._memory.authenticators[user_id]
        await self.replace_recovery_codes(user_id, [])
        self._mark(user_id, False)
        return True

    async def replace_recovery_codes(self, user_id: UserId, hashes: Sequence[bytes]) -> None:
        others = {k: v for k, v in self._memory.recovery_codes.items() if k[0] != user_id}
        self._memory.recovery_codes = others | {(user_id, hash_): None for hash_ in hashes}

    async def take_recovery_code(self, user_id: UserId, hash_: bytes, at: datetime) -> bool:
        if self._memory.recovery_codes.get((user_id, hash_), at) is not None:
            return False
        self._memory.recovery_codes[user_id, hash_] = at
        return True

    async def recovery_codes_left(self, user_id: UserId) -> int:
        codes = self._memory.recovery_codes.items()
        return sum(owner == user_id and used_at is None for (owner, _), used_at in codes)

    def _mark(self, user_id: UserId, has_it: bool) -> None:
        user = self._memory.accounts[user_id]
        self._memory.accounts[user_id] = replace(user, has_second_factor=has_it)
