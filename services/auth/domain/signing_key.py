"""One signing key and its way: standby, active, retiring, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from joserfc.jwk import ECKey

from shared.tokens import ALGORITHM
from shared.values import dataclass

_CURVE = "P-256"
_MOMENTS = ("published_at", "activated_at", "retired_at", "removed_at")


class KeyState(StrEnum):
    """Where a signing key is on its way."""

    STANDBY = "standby"
    ACTIVE = "active"
    RETIRING = "retiring"
    REMOVED = "removed"


class UnusableSigningKeys(ValueError):
    """The file can't be used; the message says why and holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair, its state, and since when. A file made by hand may leave the moments out."""

    pair: ECKey = field(repr=False)
    state: KeyState
    published_at: datetime | None = None
    activated_at: datetime | None = None
    retired_at: datetime | None = None
    removed_at: datetime | None = None

    @classmethod
    def made(cls, at: datetime) -> Self:
        """A new key that is shown to everyone and not yet used."""
        pair = ECKey.generate_key(_CURVE, {"use": "sig", "alg": ALGORITHM})
        named = ECKey.import_key(
            pair.as_dict(private=True),
            {"kid": pair.thumbprint(), "use": "sig", "alg": ALGORITHM},
        )
        return cls(named, KeyState.STANDBY, published_at=at)

    @property
    def kid(self) -> str:
        return str(self.pair.kid)

    @property
    def since(self) -> datetime | None:
        """When it came into its state."""
        return {
            KeyState.STANDBY: self.published_at,
            KeyState.ACTIVE: self.activated_at,
            KeyState.RETIRING: self.retired_at,
            KeyState.REMOVED: self.removed_at,
        }[self.state]

    def is_published(self, at: datetime, *, kept: timedelta) -> bool:
        """Whether everyone may see it; a retiring key leaves by time alone, `kept` after."""
        if self.state is KeyState.RETIRING and self.retired_at is not None:
            return at < self.retired_at + kept
        return self.state is not KeyState.REMOVED

    def is_over(self, at: datetime, *, kept: timedelta) -> bool:
        """Whether nothing is left of it that anybody may want to look up."""
        left = self.removed_at if self.state is KeyState.REMOVED else self.retired_at
        if self.state not in (KeyState.RETIRING, KeyState.REMOVED) or left is None:
            return False
        return at >= left + kept

    def activated(self, at: datetime) -> Self:
        return replace(self, state=KeyState.ACTIVE, activated_at=at)

    def retired(self, at: datetime) -> Self:
        return replace(self, state=KeyState.RETIRING, retired_at=at)

    def removed(self, at: datetime) -> Self:
        return replace(self, state=KeyState.REMOVED, removed_at=at)

    def with_known_moment(self, at: datetime) -> Self:
        """Where nobody has noted when it was published or retired, it counts from now on."""
        if self.state is KeyState.STANDBY and self.published_at is None:
            return replace(self, published_at=at)
        if self.state is KeyState.RETIRING and self.retired_at is None:
            return replace(self, retired_at=at)
        if self.state is KeyState.REMOVED and self.removed_at is None:
            return replace(self, removed_at=at)
        return self

    def to_entry(self) -> dict[str, Any]:
        """As it stands in the file."""
        moments = {name: getattr(self, name) for name in _MOMENTS}
        return {
            **self.pair.as_dict(private=True),
            "state": self.state.value,
            **{name: int(at.timestamp()) for name, at in moments.items() if at is not None},
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """Raises UnusableSigningKeys, KeyError, TypeError, AttributeError or JoseError."""
        moments = {name: _moment(entry.get(name)) for name in _MOMENTS}
        return cls(_pair_of(entry), _state_of(entry), **moments)


def _state_of(entry: Mapping[str, Any]) -> KeyState:
    try:
        return KeyState(entry["state"])
    except ValueError as error:
        raise UnusableSigningKeys("a key has an unknown state") from error


def _moment(seconds: object) -> datetime | None:
    if seconds is None:
        return None
    if type(seconds) is not int or not 0 <= seconds < 1 << 35:
        raise UnusableSigningKeys("a key has a moment that is no Unix time")
    return datetime.fromtimestamp(seconds, UTC)


def _pair_of(entry: Mapping[str, Any]) -> ECKey:
    kid = entry["kid"]
    if not isinstance(kid, str) or not kid:
        raise UnusableSigningKeys("a key has no kid")
    if entry.get("use", "sig") != "sig" or entry.get("alg", ALGORITHM) != ALGORITHM:
        raise UnusableSigningKeys("a key is meant for another purpose")
    parts = {name: entry[name] for name in ("kty", "crv", "x", "y", "d")}
    if (parts["kty"], parts["crv"]) != ("EC", _CURVE):
        raise UnusableSigningKeys("a key is not of EC P-256")
    try:
        key = ECKey.import_key(parts, {"kid": kid, "use": "sig", "alg": ALGORITHM})
        # Reads the numbers; a key whose halves don't belong together fails here, not at sign-in.
        key.private_key  # noqa: B018
    except ValueError as error:
        raise UnusableSigningKeys("a key is damaged") from error
    return key
