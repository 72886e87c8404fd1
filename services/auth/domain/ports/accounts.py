"""Where accounts are kept, and what their passwords and second factors need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.auth.domain.origin import Origin
from services.auth.domain.password import Password, PasswordHash
from services.auth.domain.second_factor import Totp
from services.auth.domain.user import EmailAddress, LoginName, User, Username
from shared.ids import UserId


class Users(Protocol):
    """The accounts."""

    async def get(self, user_id: UserId) -> User | None: ...

    async def get_all(self, user_ids: Collection[UserId]) -> Sequence[User]:
        """Those of them who are there."""
        ...

    async def hold(self, user_id: UserId) -> User | None:
        """The user, whom nobody else changes until this unit of work ends."""
        ...

    async def named(self, name: LoginName) -> User | None: ...

    async def claiming(self, address: EmailAddress, *, most: int) -> Sequence[User]:
        """Some of the accounts with this address, proven or not, the latest first."""
        ...

    async def add(self, user: User) -> None:
        """Raises UsernameTaken, or AddressTaken for a proven address."""
        ...

    async def save(self, user: User) -> None:
        """Write a user that this unit of work holds; leaves the tier alone.

        Raises UsernameTaken, or AddressTaken when another account has proven the address.
        """
        ...

    async def set_tiers(self, tiers: Mapping[UserId, tuple[str, int]], at: datetime) -> None:
        """Give users their tier where its revision is higher than the one known."""
        ...

    async def note_tiers(self, user_ids: Collection[UserId]) -> None:
        """Their effective tier may have changed: tell everybody once this is committed."""
        ...

    async def forget_unproven_before(self, at: datetime, *, most: int) -> Sequence[UserId]:
        """Delete some that were opened by then, never proved their address and never signed in."""
        ...


class Passwords(Protocol):
    """Hashes and checks passwords; slow on purpose. Methods raise PasswordsBusy when too many wait,
    all in all or of the origin's network."""

    async def hash(self, password: Password, origin: Origin) -> PasswordHash: ...

    async def verify(self, password: Password, hash_: PasswordHash | None, origin: Origin) -> bool:
        """Whether the password fits. None stands for an unknown user: as much work, then False."""
        ...

    def refuse_if_full(self, origin: Origin) -> None:
        """Before anything is looked up for a password that would find no place to wait."""
        ...

    def is_outdated(self, hash_: PasswordHash) -> bool:
        """Whether it was made with other parameters than today's."""
        ...


class PasswordRules(Protocol):
    """What a new password must be like."""

    async def check(
        self, password: Password, *, email: EmailAddress, username: Username, origin: Origin
    ) -> None:
        """Raises PasswordRefused or PasswordsBusy."""
        ...


class SecondFactors(Protocol):
    """Authenticators and recovery codes."""

    async def totp_of(self, user_id: UserId) -> Totp | None:
        """Also one that waits to be confirmed. Raises SecondFactorUnreadable."""
        ...

    async def active_since(self, user_id: UserId) -> datetime | None:
        """Asks for no sealing key."""
        ...

    async def begin(self, totp: Totp) -> bool:
        """Keep a new one in place of one that was never confirmed; False if one is active."""
        ...

    async def confirm(self, totp: Totp) -> bool:
        """Activate the one that was begun, unless it has been activated or replaced meanwhile."""
        ...

    async def take_step(self, user_id: UserId, step: int) -> bool:
        """Note that the code of a step was used; False for a step that is not a later one."""
        ...

    async def remove(self, user_id: UserId) -> bool:
        """Delete an active one and its recovery codes; False if there was none."""
        ...

    async def replace_recovery_codes(self, user_id: UserId, hashes: Sequence[bytes]) -> None: ...

    async def take_recovery_code(self, user_id: UserId, hash_: bytes, at: datetime) -> bool:
        """Note that a code was used; False if it is none, or was used before."""
        ...

    async def recovery_codes_left(self, user_id: UserId) -> int: ...
