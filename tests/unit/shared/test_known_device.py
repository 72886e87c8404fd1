"""What every device at a WebSocket has to keep to, and what it is told of its token."""

from __future__ import annotations

import time
from typing import Any, Literal
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

from shared.close_codes import CloseCode
from shared.errors import ExpectedFailure, Invalid
from shared.http.caller import Caller
from shared.http.known_device import KnownDevice, length_of
from shared.http.socket_words import OtherUser, Pace, Ref, SpokenWord, read_word
from shared.ids import UserId
from shared.tokens import Identity

LARGEST = 100
HALLO = {"text": '{"op": "hallo", "ref": 7}'}
NOISE = {"text": "noise"}


class Hallo(SpokenWord):
    """The one word that there is."""

    op: Literal["hallo"]


WORDS: TypeAdapter[Hallo] = TypeAdapter(Hallo)


def read(text: str) -> tuple[Hallo | None, Ref, Invalid | None]:
    return read_word(WORDS, text)


def a_caller(user_id: UserId, *, good_for_seconds: float = 900) -> Caller:
    identity = Identity(
        user_id=user_id,
        tier="free",
        role="member",
        organisation_id=None,
        sign_in_id=uuid4(),
        scopes=frozenset({"chat"}),
        expires_at=int(time.time() + good_for_seconds),
        issued_at=int(time.time()),
    )
    return Caller(identity, "a token")


class Door:
    """Knows one token."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def caller(self, token: str) -> Caller:
        return self._caller


class Listening(KnownDevice):
    """Remembers what it was told."""

    def __init__(self, caller: Caller, newer: Caller | None = None, pace: Pace | None = None):
        super().__init__(caller, Door(newer or caller), pace or Pace())
        self.closed: list[tuple[CloseCode, str]] = []
        self.complaints: list[tuple[str, Ref]] = []

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((code, reason))

    def _complain(self, failure: ExpectedFailure, ref: Ref) -> None:
        self.complaints.append((failure.code, ref))

    def hears(self, message: dict[str, Any]) -> tuple[Hallo, Ref] | None:
        return self._word_in(message, read, largest=LARGEST)

    def expiry(self) -> dict[str, Any] | None:
        return self._expiry_to_tell()

    async def show(self, token: str) -> None:
        await self._show_again(token)


ADA, GRACE = UserId(uuid4()), UserId(uuid4())


def test_a_word_comes_with_its_ref() -> None:
    device = Listening(a_caller(ADA))
    assert device.hears(HALLO) == (Hallo(op="hallo", ref=7), 7)
    assert (device.closed, device.complaints) == ([], [])


def test_ten_messages_in_a_row_that_are_no_words_are_the_last() -> None:
    device = Listening(a_caller(ADA))
    for _ in range(9):
        assert device.hears(NOISE) is None
    assert device.closed == []
    device.hears(NOISE)
    assert device.closed == [(CloseCode.POLICY, "not_understood")]
    assert device.complaints == [("unreadable_message", None)] * 10


def test_a_word_between_them_counts_anew() -> None:
    device = Listening(a_caller(ADA))
    for message in (*[NOISE] * 9, HALLO, *[NOISE] * 9):
        device.hears(message)
    assert device.closed == []


def test_who_says_words_too_fast_is_told_with_the_ref() -> None:
    device = Listening(a_caller(ADA), pace=Pace(per_second=0.0, burst=1.0))
    assert device.hears(HALLO) is not None
    assert device.hears(HALLO) is None
    assert device.complaints == [("too_many_messages", 7)]


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_what_is_too_large_is_not_read(kind: str) -> None:
    content = "x" * (LARGEST + 1)
    message = {kind: content if kind == "text" else content.encode()}
    device = Listening(a_caller(ADA))
    assert device.hears(message) is None
    assert device.closed == [(CloseCode.TOO_BIG, "too_large")]
    assert device.complaints == []
    assert length_of(message) == LARGEST + 1


async def test_the_end_of_a_token_is_told_once_and_of_the_next_one_again() -> None:
    newer = a_caller(ADA, good_for_seconds=50)
    device = Listening(a_caller(ADA, good_for_seconds=50), newer)
    assert device.expiry() is not None
    assert device.expiry() is None
    await device.show("a newer token")
    assert device.expiry() is not None


def test_it_is_not_told_before_the_last_minute() -> None:
    assert Listening(a_caller(ADA, good_for_seconds=65)).expiry() is None


async def test_a_token_of_another_user_is_not_taken() -> None:
    device = Listening(a_caller(ADA), a_caller(GRACE))
    with pytest.raises(OtherUser):
        await device.show("somebody else's")
    assert device.user_id == ADA
