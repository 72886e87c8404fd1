"""The news that a key is gone, as it travels from a worker to the replicas that may use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

KEY_HEADER = "x-companion-key"
"""In which keyvault tells whoever called a vendor what key that was; see `UsedKey.told`."""

# When it was withdrawn is keyvault's time, when a call began that of its replica.
_CLOCKS_APART = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class UsedKey:
    """The key that a call ran on, as keyvault tells it: of a user or an organisation."""

    owner_id: UUID
    provider: str
    version: int

    @property
    def told(self) -> str:
        """As keyvault says it beside the vendor's answer: `owner version`."""
        return f"{self.owner_id} {self.version}"

    @classmethod
    def from_told(cls, provider: str, told: str) -> UsedKey | None:
        """None for what says nothing, as the keyless call to an operator's own server."""
        owner_id, _, version = told.partition(" ")
        try:
            return cls(UUID(owner_id), provider, int(version))
        except ValueError:
            return None


class KeyUser(Protocol):
    """What runs on a user's key: a turn of chat, a speech of voice."""

    @property
    def user_id(self) -> UserId: ...
    @property
    def provider(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key at one vendor was withdrawn, up to and including a version: a user's, or an
    organisation's, whose id then stands for a user's. Without a version every key that the user
    has or may use: they are gone."""

    user_id: UserId
    provider: str
    at: datetime
    version: int | None = None

    def concerns(self, running: KeyUser, *, served_by: UUID | None) -> bool:
        """Whether it may run on that key; `served_by`: the organisation whose key may be it.

        With a version it may whatever the clocks say, which may be further apart: what it really
        runs on decides, see `KeyInUse.withdrawn`.
        """
        may_be_older = self.version is not None or running.created_at <= self.at + _CLOCKS_APART
        return (
            self.user_id in (running.user_id, served_by)
            and running.provider == self.provider
            and may_be_older
        )

    def is_of(self, used: UsedKey) -> bool:
        """Whether that key is gone."""
        return (
            used.owner_id == self.user_id
            and used.provider == self.provider
            and (self.version is None or used.version <= self.version)
        )


class KeyInUse:
    """Which keys the calls of one request ran on. Keyvault tells it with each vendor's answer, so
    that until then nobody here knows."""

    __slots__ = ("_doubts", "_used")

    def __init__(self) -> None:
        self._used: tuple[UsedKey, ...] = ()
        self._doubts: tuple[tuple[Revocation, Callable[[], object]], ...] = ()

    def answered(self, provider: str, told: str) -> None:
        """A vendor's answer is here, and what keyvault told of the key it was made with. Ends what
        a revocation was in doubt about."""
        used = UsedKey.from_told(provider, told)
        if used is not None and used not in self._used:
            self._used = (*self._used, used)
        if self._doubts:
            self._resolve(provider, used)

    def owners(self, provider: str) -> frozenset[UUID]:
        """Whose keys they were at a vendor, as far as it was told."""
        return frozenset(used.owner_id for used in self._used if used.provider == provider)

    def untold(self) -> None:
        """A vendor may have been asked, and no answer told with which key."""

    def _resolve(self, provider: str, used: UsedKey | None) -> None:
        doubts, self._doubts = self._doubts, ()
        for revocation, end in doubts:
            if revocation.provider == provider and (used is None or revocation.is_of(used)):
                end()
            else:
                # Another call of the same request may yet be answered, and be on that key.
                self._doubts = (*self._doubts, (revocation, end))

    def withdrawn(
        self, revocation: Revocation, running: KeyUser, end: Callable[[], object]
    ) -> bool:
        """End what runs on a key that is gone; answers whether it does so now.

        What began before that and was not answered yet ends too: it may hang at the vendor, on that
        key. What seems to have begun later is either on the key's successor or by a clock that is
        ahead, and what was answered on another key may have one more call under way: both are ended
        as soon as an answer tells that it is on the key that is gone.
        """
        used = [one for one in self._used if one.provider == revocation.provider]
        if revocation.version is None or any(map(revocation.is_of, used)):
            ends = True
        else:
            ends = not used and running.created_at <= revocation.at
        if ends:
            end()
        else:
            self._doubts = (*self._doubts, (revocation, end))
        return ends


class KeyOfCall(KeyInUse):
    """Which key one paid call ran on, be it one request to the vendor or several, beside others of
    the same request here, which all know of it."""

    __slots__ = ("_all", "_owners")

    def __init__(self, all_: KeyInUse) -> None:
        super().__init__()
        self._all = all_
        self._owners: frozenset[UUID | None] = frozenset()

    def answered(self, provider: str, told: str) -> None:
        used = UsedKey.from_told(provider, told)
        self._owners |= {None if used is None else used.owner_id}
        self._all.answered(provider, told)

    def untold(self) -> None:
        self._owners |= {None}

    def organisation(self, user_id: UserId) -> UUID | None:
        """Whose key it was, where that is known of all of it and was not the user's own."""
        if len(self._owners) != 1:
            return None
        (owner,) = self._owners
        return None if owner == user_id else owner
