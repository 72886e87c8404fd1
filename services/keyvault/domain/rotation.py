"""Rotation of the key that wraps data keys: what may follow what, on the keyring's document.

    add → standby → activate → active → (the next one is activated) → retired → retire → closed

Each change is a function from one document to the next; done twice it changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.keyvault.domain.errors import (
    NoSuchVersion,
    NothingOnStandby,
    VersionIsActive,
    VersionWasUsedUp,
)
from services.keyvault.domain.keyring import KeyState, new_key_entry, read_keyring
from shared.values import dataclass

Document = Mapping[str, Any]
Change = Callable[[Document], Document]


@dataclass(frozen=True, slots=True)
class Replica:
    """A process with a vault, and the versions that it has opened it with."""

    name: str
    active: int
    versions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rewrap has come."""

    target: int
    rewrapped: int
    left: int
    broken: int = 0

    @property
    def is_complete(self) -> bool:
        return self.left == 0


def with_standby(document: Document) -> Document:
    """A new version on standby, unless one waits already. Raises KeyringRefused."""
    states = read_keyring(document).states
    if KeyState.STANDBY in states.values():
        return document
    entry = new_key_entry(max(states) + 1, KeyState.STANDBY)
    return {**document, "keys": [*document["keys"], entry]}


def with_active(document: Document, version: int) -> Document:
    """The version wraps what is new; the one before opens what it wrapped.

    Raises KeyringRefused, NoSuchVersion or VersionWasUsedUp.
    """
    keyring = read_keyring(document)
    match _state(keyring.states, version):
        case KeyState.ACTIVE:
            return document
        case KeyState.RETIRED | KeyState.CLOSED:
            raise VersionWasUsedUp(version)
    changed = {keyring.active: KeyState.RETIRED, version: KeyState.ACTIVE}
    return {**_with_states(document, changed), "active": version}


def with_closed(document: Document, version: int) -> Document:
    """The version opens nothing more. Raises KeyringRefused, NoSuchVersion or VersionIsActive."""
    if _state(read_keyring(document).states, version) is KeyState.ACTIVE:
        raise VersionIsActive(version)
    return _with_states(document, {version: KeyState.CLOSED})


def on_standby(states: Mapping[int, KeyState], version: int | None = None) -> int:
    """Which version is to be activated. Raises NothingOnStandby, NoSuchVersion, VersionWasUsedUp.

    The active one is an answer too: then a rerun has nothing left to do.
    """
    if version is None:
        waiting = [v for v, state in states.items() if state is KeyState.STANDBY]
        if not waiting:
            raise NothingOnStandby
        return max(waiting)
    if _state(states, version) not in (KeyState.STANDBY, KeyState.ACTIVE):
        raise VersionWasUsedUp(version)
    return version


def to_close(states: Mapping[int, KeyState], version: int) -> None:
    """Raises NoSuchVersion, or VersionIsActive."""
    if _state(states, version) is KeyState.ACTIVE:
        raise VersionIsActive(version)


def not_knowing(replicas: Sequence[Replica], version: int) -> list[Replica]:
    """Those that could not open what this version wraps."""
    return [replica for replica in replicas if version not in replica.versions]


def still_wrapping(replicas: Sequence[Replica], version: int) -> list[Replica]:
    """Those that would wrap the next data key under this version."""
    return [replica for replica in replicas if replica.active == version]


def _state(states: Mapping[int, KeyState], version: int) -> KeyState:
    try:
        return states[version]
    except KeyError as error:
        raise NoSuchVersion(version) from error


def _with_states(document: Document, states: Mapping[int, KeyState]) -> Document:
    changed = [
        {**entry, "state": states.get(entry["version"], KeyState(entry["state"])).value}
        for entry in document["keys"]
    ]
    return {**document, "keys": changed}
