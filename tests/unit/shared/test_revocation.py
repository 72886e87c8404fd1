"""What a withdrawn key ends: what runs on it, and nothing that runs on another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.revocation import KeyInUse, Revocation, UsedKey

NOON = datetime(2026, 7, 20, 12, tzinfo=UTC)
ADA = UserId(UUID(int=1))
FIRM = UUID(int=2)


@dataclass
class Running:
    """A turn or a speech."""

    created_at: datetime = NOON
    user_id: UserId = ADA
    provider: str = "openai"


def gone(seconds: float = 1, **changes: object) -> Revocation:
    """Ada's key is withdrawn, so long after noon."""
    said = {"user_id": ADA, "provider": "openai", "at": NOON + timedelta(seconds=seconds)}
    return Revocation(**{**said, "version": 1, **changes})  # type: ignore[arg-type]


def told(version: int = 1, owner: UUID = ADA) -> str:
    return UsedKey(owner, "openai", version).told


def test_it_concerns_what_may_run_on_that_key() -> None:
    assert gone().concerns(Running(), served_by=None)
    assert not gone().concerns(Running(user_id=UserId(uuid4())), served_by=None)
    assert not gone(provider="gemini").concerns(Running(), served_by=None)
    assert gone(user_id=UserId(FIRM)).concerns(Running(), served_by=FIRM)
    assert not gone(user_id=UserId(FIRM)).concerns(Running(), served_by=None)


def test_without_a_version_it_concerns_nothing_that_began_later() -> None:
    assert gone(-4, version=None).concerns(Running(), served_by=None)
    assert not gone(-6, version=None).concerns(Running(), served_by=None)


def test_a_clock_that_is_ahead_makes_no_difference() -> None:
    assert gone(-4).concerns(Running(), served_by=None)
    assert gone(-300).concerns(Running(), served_by=None)


@pytest.mark.parametrize(
    ("version", "owner", "ends"), [(1, ADA, True), (2, ADA, False), (1, FIRM, False)]
)
def test_what_keyvault_told_decides(version: int, owner: UUID, ends: bool) -> None:
    ended: list[str] = []
    key = KeyInUse()
    key.answered("openai", told(version, owner))
    assert key.withdrawn(gone(), Running(), lambda: ended.append("x")) is ends
    assert bool(ended) is ends


def test_before_anything_is_told_what_began_earlier_ends() -> None:
    ended: list[str] = []
    assert KeyInUse().withdrawn(gone(), Running(), lambda: ended.append("x"))
    assert ended == ["x"]


@pytest.mark.parametrize(
    ("said", "ends"), [(told(1), True), (told(2), False), (told(1, FIRM), False), ("", True)]
)
def test_what_seems_to_have_begun_later_is_decided_by_its_answer(said: str, ends: bool) -> None:
    ended: list[str] = []
    key = KeyInUse()
    assert not key.withdrawn(gone(-1), Running(), lambda: ended.append("x"))
    key.answered("gemini", told(1))
    assert not ended
    key.answered("openai", said)
    assert bool(ended) is ends
    key.answered("openai", told(1))
    assert len(ended) <= 1


def test_calls_on_both_keys_end_with_the_older_one() -> None:
    key = KeyInUse()
    key.answered("openai", told(1))
    key.answered("openai", told(2))
    assert key.withdrawn(gone(), Running(), lambda: None)


def test_a_call_under_way_beside_one_that_was_answered_on_another_key_ends_at_its_answer() -> None:
    """Of a long speech's pieces one is read while the next is asked for: the user may have stored a
    key of their own in between, in place of the organisation's, and withdrawn it again."""
    ended: list[str] = []
    key = KeyInUse()
    key.answered("openai", told(4, FIRM))
    assert not key.withdrawn(gone(), Running(), lambda: ended.append("x"))
    key.answered("openai", told(4, FIRM))
    assert not ended, "what runs on the other key goes on"
    key.answered("openai", told(1))
    assert ended == ["x"]


def test_an_answer_on_the_successor_settles_nothing_for_another_call() -> None:
    ended: list[str] = []
    key = KeyInUse()
    assert not key.withdrawn(gone(-1), Running(), lambda: ended.append("x"))
    key.answered("openai", told(2))
    assert not ended
    key.answered("openai", told(1))
    key.answered("openai", told(1))
    assert ended == ["x"]


def test_many_calls_on_one_key_are_remembered_as_one() -> None:
    key = KeyInUse()
    for _ in range(100):
        key.answered("openai", told(1))
    assert key._used == (UsedKey(ADA, "openai", 1),)


def test_what_began_in_the_very_moment_ends_at_once() -> None:
    ended: list[str] = []
    assert KeyInUse().withdrawn(gone(0), Running(NOON), lambda: ended.append("x"))
    assert ended == ["x"]


def test_a_key_at_another_vendor_is_another_key() -> None:
    assert gone().is_of(UsedKey(ADA, "openai", 1))
    assert not gone().is_of(UsedKey(ADA, "gemini", 1))
    assert not gone(version=None).is_of(UsedKey(ADA, "gemini", 1))


def test_whoever_is_gone_has_no_key_at_all() -> None:
    key = KeyInUse()
    key.answered("openai", told(7, FIRM))
    assert key.withdrawn(gone(version=None), Running(), lambda: None)


@pytest.mark.parametrize("said", ["", "x", "1 2", f"{ADA}", f"{ADA} one", "\x00"])
def test_what_says_nothing_of_a_key_is_none(said: str) -> None:
    assert UsedKey.from_told("openai", said) is None


def test_what_is_told_can_be_read() -> None:
    assert UsedKey.from_told("openai", told(3)) == UsedKey(ADA, "openai", 3)


def test_whose_keys_they_were_is_told_by_vendor() -> None:
    key = KeyInUse()
    assert key.owners("openai") == set()
    for provider, said in (("openai", told()), ("openai", told(owner=FIRM)), ("gemini", "")):
        key.answered(provider, said)
    assert key.owners("openai") == {ADA, FIRM}
    assert key.owners("gemini") == set()


@pytest.mark.parametrize(
    ("said", "whose"),
    [
        ([told(1, FIRM)], FIRM),
        ([told(1, FIRM), told(2, FIRM)], FIRM),
        ([told(1)], None),
        ([], None),
        ([""], None),
        # Of a call that was several requests it is only known where all of them told the same.
        ([told(1, FIRM), told(1)], None),
        ([told(1, FIRM), ""], None),
        ([told(1, FIRM), None], None),
        ([told(1, FIRM), told(1, UUID(int=3))], None),
    ],
)
def test_whose_key_a_call_ran_on_is_known_or_left_open(
    said: list[str | None], whose: UUID | None
) -> None:
    _, key = OnBehalfOf(ADA, "request-1", "token", UUID(int=9)).for_call()
    for one in said:
        key.untold() if one is None else key.answered("openai", one)
    assert key.organisation(ADA) == whose


def test_calls_beside_each_other_know_of_their_own_keys_and_their_request_of_all() -> None:
    ended: list[str] = []
    by = OnBehalfOf(ADA, "request-1", "token", UUID(int=9))
    (one_by, one), (other_by, other) = by.for_call(), by.for_call()
    one_by.key.answered("openai", told(1, FIRM))
    other_by.key.answered("openai", told(1))
    assert (one.organisation(ADA), other.organisation(ADA)) == (FIRM, None)
    assert by.key.owners("openai") == {FIRM, ADA}
    assert by.key.withdrawn(gone(user_id=UserId(FIRM)), Running(), lambda: ended.append("x"))
    assert ended == ["x"]
