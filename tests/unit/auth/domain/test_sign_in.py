"""Sign-ins: how long they last, and what each generation of token deserves."""

from datetime import timedelta

import pytest

from services.auth.domain.sign_in import Proof, SignIn, Verdict
from tests.support.auth import LIFETIMES, NOON, a_sign_in, a_user

SECOND = timedelta(seconds=1)


def rotated(times: int) -> SignIn:
    sign_in = a_sign_in(a_user())
    for _ in range(times):
        sign_in = sign_in.rotated(NOON, LIFETIMES)
    return sign_in


@pytest.mark.parametrize(
    ("counter", "after", "verdict"),
    [
        (3, timedelta(), Verdict.ROTATE),
        (3, timedelta(days=13), Verdict.ROTATE),
        (2, timedelta(), Verdict.REPEAT),
        (2, 10 * SECOND, Verdict.REPEAT),
        (2, 10 * SECOND + timedelta(microseconds=1), Verdict.REUSED),
        (1, timedelta(), Verdict.REUSED),
        (0, timedelta(), Verdict.REUSED),
        # Genuine but ahead of us: the database was restored from an older backup.
        (4, timedelta(), Verdict.AHEAD),
    ],
)
def test_only_the_current_token_and_shortly_its_parent_are_good(
    counter: int, after: timedelta, verdict: Verdict
) -> None:
    assert rotated(3).verdict_on(counter, NOON + after, LIFETIMES) is verdict


def test_use_prolongs_a_sign_in_up_to_its_absolute_end() -> None:
    sign_in = a_sign_in(a_user())
    assert sign_in.expires_at == NOON + timedelta(days=14)
    at = NOON
    for _ in range(12):
        at += timedelta(days=13)
        sign_in = sign_in.rotated(at, LIFETIMES)
    assert sign_in.expires_at == NOON + timedelta(days=90)


def test_the_grace_begins_with_each_rotation() -> None:
    sign_in, later = a_sign_in(a_user()), NOON + timedelta(days=1)
    sign_in = sign_in.rotated(later, LIFETIMES)
    assert sign_in.verdict_on(0, later + 10 * SECOND, LIFETIMES) is Verdict.REPEAT
    assert sign_in.verdict_on(0, later + 11 * SECOND, LIFETIMES) is Verdict.REUSED


def test_an_expired_or_ended_sign_in_is_not_live() -> None:
    sign_in = a_sign_in(a_user())
    assert sign_in.is_live(NOON)
    assert not sign_in.is_live(sign_in.expires_at)
    assert not a_sign_in(a_user(), ended_at=NOON).is_live(NOON)


def test_a_device_says_something_printable_and_short() -> None:
    sign_in = SignIn.begun(
        a_user().id,
        device="Bro\0wser\n" * 100,
        pepper_version=1,
        proof=Proof(NOON, frozenset({"pwd"})),
        at=NOON,
        lifetimes=LIFETIMES,
    )
    assert sign_in.device == ("Browser" * 100)[:200]
