"""How signing keys follow each other: plain values in, plain values out, no file and no clock.

Everybody keeps our public keys for a minute. So a key is shown long before it signs, and long after
it has signed for the last time; between the two, no token meets a verifier that can't check it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Self

from services.auth.domain.signing_key import KeyState, SigningKey
from shared.values import dataclass

_NEVER = datetime.max.replace(tzinfo=UTC)


class NoSuchSigningKey(ValueError):
    """No key in the file has this id."""


class StandbyTooYoung(Exception):
    """The next key has not been shown for long enough: some would refuse what it signs."""

    def __init__(self, kid: str, ready_at: datetime) -> None:
        super().__init__(f"the key {kid} may sign from {ready_at.isoformat()} on")
        self.kid = kid
        self.ready_at = ready_at


@dataclass(frozen=True, slots=True)
class RotationPace:
    """How long a key is shown before it signs, and kept after it has signed."""

    published_first: timedelta
    kept: timedelta


@dataclass(frozen=True, slots=True)
class KeyLine:
    """The keys of one installation, in the order in which they were made."""

    keys: tuple[SigningKey, ...]

    @classmethod
    def new(cls, at: datetime) -> Self:
        """One key that signs and one that is shown beside it from the first moment."""
        return cls((SigningKey.made(at).activated(at), SigningKey.made(at)))

    @property
    def active(self) -> SigningKey:
        """The key that signs."""
        return next(key for key in self.keys if key.state is KeyState.ACTIVE)

    @property
    def standby(self) -> SigningKey | None:
        """The key that signs next: of several the one that was shown first."""
        waiting = [key for key in self.keys if key.state is KeyState.STANDBY]
        return min(waiting, key=lambda key: key.published_at or _NEVER, default=None)

    def get(self, kid: str) -> SigningKey:
        """Raises NoSuchSigningKey."""
        for key in self.keys:
            if key.kid == kid:
                return key
        raise NoSuchSigningKey(kid)

    def ready_at(self, standby: SigningKey, pace: RotationPace, now: datetime) -> datetime:
        """From when on the standby may sign."""
        shown, first = standby.published_at, self.active.published_at
        if shown is None:
            return now + pace.published_first
        # Whoever knows the active key knows this one too: they were shown together.
        if first is not None and shown <= first:
            return shown
        return shown + pace.published_first

    def tidied(self, at: datetime, pace: RotationPace) -> Self:
        """Without the keys that are over, with a standby, and with every moment noted."""
        kept = [
            key.with_known_moment(at) for key in self.keys if not key.is_over(at, kept=pace.kept)
        ]
        return self._of(kept)._with_standby(at)

    def rotated(self, at: datetime, pace: RotationPace) -> Self:
        """The standby signs, the active key retires, a new standby is shown.

        Raises StandbyTooYoung.
        """
        line = self.tidied(at, pace)
        standby = line.standby
        assert standby is not None
        if at < (ready_at := line.ready_at(standby, pace, at)):
            raise StandbyTooYoung(standby.kid, ready_at)
        return line._replacing(line.active.retired(at), standby.activated(at))._with_standby(at)

    def without(self, kid: str, at: datetime, pace: RotationPace) -> Self:
        """A key is no longer shown from now on, and every token that it signed is void.

        If it was the active one, the standby signs at once, however young it is: better that some
        hear 401 for a minute than that a stolen key stays good. Raises NoSuchSigningKey.
        """
        key = self.get(kid)
        if key.state is KeyState.REMOVED:
            return self
        line, successors = self, []
        if key.state is KeyState.ACTIVE:
            # Without a standby a new key takes over: something has to sign.
            line = self._with_standby(at)
            assert line.standby is not None
            successors = [line.standby.activated(at)]
        return line._replacing(key.removed(at), *successors).tidied(at, pace)

    def _with_standby(self, at: datetime) -> Self:
        if self.standby is not None:
            return self
        # Never shown "together" with the active key, whatever the second in which both were made.
        first = self.active.published_at
        shown_at = max(at, first + timedelta(seconds=1)) if first is not None else at
        return self._of((*self.keys, SigningKey.made(shown_at)))

    def _replacing(self, *changed: SigningKey) -> Self:
        by_kid = {key.kid: key for key in changed}
        return self._of(by_kid.get(key.kid, key) for key in self.keys)

    def _of(self, keys: Iterable[SigningKey]) -> Self:
        return type(self)(tuple(keys))
