"""What a user had said before: kept so that the same words need not be asked for again."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NewType, Protocol

import orjson

from services.voice.domain.script import Extras, Script, SettingsWish
from services.voice.domain.voice import VoiceId
from shared.ids import UserId
from shared.sealing import Sealer, Unsealable
from shared.values import dataclass

Address = NewType("Address", bytes)

_PURPOSE = "utterance"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept of one user, for how long, and how large one speech may be."""

    characters: int = 1_000
    bytes: int = 1 << 20
    entries_of_user: int = 500
    bytes_of_user: int = 32 << 20
    age: timedelta = timedelta(days=30)

    def admits(self, script: Script) -> bool:
        """Whether the script is one that is kept; known before anything is asked. Times are not
        kept, and neither is what the vendor itself is asked not to keep, nor what it looks up in a
        dictionary of the user's, which may be another one tomorrow."""
        extras = script.extras or Extras()
        return (
            len(script.text) <= self.characters
            and not script.is_timed
            and "enable_logging=false" not in extras.query
            and "pronunciation_dictionary_locators" not in extras.fields
        )


@dataclass(frozen=True, slots=True)
class KeptSum:
    """How much is kept of a user."""

    utterances: int
    bytes: int
    oldest_at: datetime | None


class KeptSpeeches(Protocol):
    """Sealed audio by its user and address: each call is a transaction of its own."""

    async def find(self, user_id: UserId, address: Address, *, since: datetime) -> bytes | None:
        """The sealed audio, unless it was kept before `since`."""
        ...

    async def keep(
        self,
        user_id: UserId,
        address: Address,
        sealed: bytes,
        *,
        began: datetime,
        at: datetime,
        bounds: Bounds,
    ) -> None:
        """Keep it, and let the user's oldest go as far as the bounds want it. Not one that `began`
        to be said before what `erase_spoken` was told."""
        ...

    async def drop_before(self, moment: datetime, *, most: int) -> int:
        """Let go what was kept before; answers how many."""
        ...


@dataclass(frozen=True, slots=True)
class Recollection:
    """What is known of a user before they are spoken to: how they want that voice to speak, and the
    sealed audio of the words, if they had them said before. `is_hidden`: the voice was made for
    somebody else, or is being removed."""

    own: SettingsWish = field(default_factory=SettingsWish)
    sealed: bytes | None = None
    is_hidden: bool = False


class Recollections(Protocol):
    """Looks for all of it at once, since a hearer waits for each look."""

    async def of(
        self,
        user_id: UserId,
        voice_id: VoiceId,
        address: Address | None = None,
        *,
        since: datetime | None = None,
    ) -> Recollection:
        """Without an address no audio is looked for; with one, none that was kept before `since`.
        Raises Unavailable."""
        ...


class KeptSpeechesOfUser(Protocol):
    """What is kept of one user: to say how much, and to forget it."""

    async def sum_of(self, user_id: UserId) -> KeptSum: ...

    async def erase_spoken(self, user_id: UserId, *, before: datetime, most: int) -> int:
        """All audio, also what is being said yet: what began `before` is not kept any more.
        Answers how many went."""
        ...

    async def erase(self, user_id: UserId, *, most: int) -> int:
        """Everything. Answers how many went."""
        ...


class KeptSpeechKeys(Protocol):
    """The keys that kept speeches are sealed with, by their version."""

    def current(self) -> Mapping[int, bytes] | None:
        """None while there are none: then nothing is kept and nothing recalled."""
        ...


@dataclass(frozen=True, slots=True)
class KeptSpeechSeal:
    """Where a kept speech lies and how it is closed.

    Who reads the database learns neither what was said nor whether two users said the same: the
    address is a keyed digest over the user and the whole script, and the audio is sealed for just
    that user and address.
    """

    keys: Mapping[int, bytes] = field(repr=False)

    def address(self, user_id: UserId, script: Script) -> Address:
        return Address(hmac.digest(self._address_key(), _binding(user_id, script), sha256))

    def close(self, user_id: UserId, address: Address, audio: bytes) -> bytes:
        return Sealer(self.keys).seal(_purpose(address), user_id, audio)

    def open(self, user_id: UserId, address: Address, sealed: bytes) -> bytes | None:
        """None for what another key has closed: it is as good as not there."""
        try:
            return Sealer(self.keys).open(_purpose(address), user_id, sealed)
        except Unsealable:
            return None

    def _address_key(self) -> bytes:
        return _derived(self.keys[max(self.keys)], b"address")


def marks_of_request(
    keys: Mapping[int, bytes] | None, user_id: UserId, request_hash: bytes
) -> Sequence[bytes]:
    """What a repetition of the request is known by, the one that is written today first: keyed, as
    a hash alone could be tried with likely texts. Without keys it has to do."""
    marks = [
        hmac.digest(
            _derived((keys or {})[version], b"request"), user_id.bytes + request_hash, sha256
        )
        for version in sorted(keys or {}, reverse=True)
    ]
    return [*marks, request_hash]


def _derived(key: bytes, use: bytes) -> bytes:
    # Not the sealing key itself: each key has one use.
    return hmac.digest(key, b"companion.voice.utterance.%b.1" % use, sha256)


def _purpose(address: Address) -> str:
    return f"{_PURPOSE} {address.hex()}"


def _binding(user_id: UserId, script: Script) -> bytes:
    # JSON, so that no two scripts read the same whatever stands in their fields.
    return user_id.bytes + orjson.dumps(asdict(script), option=orjson.OPT_SORT_KEYS)
