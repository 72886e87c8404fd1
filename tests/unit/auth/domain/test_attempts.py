"""How many wrong guesses are borne."""

from datetime import timedelta

import pytest

from services.auth.domain.attempts import (
    AskingLimit,
    CeilingPerMinute,
    Failures,
    failures_at_login,
    failures_of,
)
from services.auth.domain.errors import TooManyAttempts
from services.auth.domain.user import LoginName
from tests.support.auth import LIMIT, NOON, a_user

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def after(count: int) -> Failures:
    """So many failures at once."""
    failures: Failures | None = None
    for _ in range(count):
        failures = LIMIT.after_one_more(failures, NOON)
    assert failures is not None
    return failures


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_first_failures_are_free(count: int) -> None:
    LIMIT.check(None, NOON)
    LIMIT.check(after(count), NOON)


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 900), (11, 900), (10_000, 900)],
)
def test_from_the_fifth_on_each_failure_brings_a_longer_wait(count: int, seconds: int) -> None:
    failures = Failures(count - 1, NOON + MINUTE)
    failures = LIMIT.after_one_more(failures, NOON)
    with pytest.raises(TooManyAttempts) as refusal:
        LIMIT.check(failures, NOON)
    assert refusal.value.retry_after == timedelta(seconds=seconds)
    LIMIT.check(failures, NOON + timedelta(seconds=seconds))


def test_free_failures_are_forgotten_with_their_window() -> None:
    later = NOON + LIMIT.window
    assert after(4).window_ends_at == later
    assert LIMIT.after_one_more(after(4), later - SECOND).blocked_until is not None
    assert LIMIT.after_one_more(after(4), later) == Failures(1, later + LIMIT.window)


def test_after_a_wait_only_quiet_makes_it_short_again() -> None:
    failures = after(7)
    assert failures.blocked_until == NOON + timedelta(seconds=120)
    quiet_ends = failures.blocked_until + LIMIT.window
    soon = LIMIT.after_one_more(failures, quiet_ends - SECOND)
    assert soon.blocked_until == quiet_ends - SECOND + timedelta(seconds=240)
    assert LIMIT.after_one_more(failures, quiet_ends).blocked_until is None


def test_no_lock_is_for_good() -> None:
    """Whoever keeps on guessing wins one guess each quarter of an hour, and its owner's is one."""
    failures, now = after(4), NOON
    for _ in range(50):
        failures = LIMIT.after_one_more(failures, now)
        assert failures.blocked_until is not None
        assert failures.blocked_until - now <= LIMIT.longest_delay
        now = failures.blocked_until
        LIMIT.check(failures, now)


def test_the_ceiling_of_all_lasts_until_the_minute_ends() -> None:
    ceiling = CeilingPerMinute(1000)
    ends_at = ceiling.window_from(NOON)
    ceiling.check(None, NOON)
    ceiling.check(Failures(999, ends_at), NOON)
    with pytest.raises(TooManyAttempts) as refusal:
        ceiling.check(Failures(1000, ends_at), NOON + 20 * SECOND)
    assert refusal.value.retry_after == 40 * SECOND
    ceiling.check(Failures(1000, ends_at), ends_at)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=400)])
def test_nobody_waits_until_a_clock_that_was_ahead_would_be_right(ahead: timedelta) -> None:
    many = Failures(10_000, NOON + ahead + MINUTE, NOON + ahead + LIMIT.longest_delay)
    LIMIT.check(many, NOON)
    assert LIMIT.after_one_more(many, NOON) == Failures(1, NOON + LIMIT.window)
    CeilingPerMinute(1000).check(many, NOON)
    AskingLimit(3, MINUTE).check(many, NOON)


def test_clocks_that_differ_a_little_lift_no_limit() -> None:
    many = Failures(10_000, NOON + 2 * MINUTE, NOON + 2 * LIMIT.longest_delay)
    for limit in (LIMIT, CeilingPerMinute(1000), AskingLimit(3, MINUTE)):
        with pytest.raises(TooManyAttempts):
            limit.check(many, NOON)


def test_a_replica_that_is_minutes_behind_lifts_no_limit_of_a_minute() -> None:
    many = Failures(10_000, NOON + timedelta(minutes=5) + MINUTE)
    for limit in (CeilingPerMinute(1000), AskingLimit(3, MINUTE)):
        with pytest.raises(TooManyAttempts):
            limit.check(many, NOON)


def test_of_those_who_looked_together_the_surplus_is_refused() -> None:
    limit, ends_at = AskingLimit(3, 60 * SECOND), NOON + 60 * SECOND
    limit.check(Failures(2, ends_at), NOON)
    limit.check_counted(Failures(3, ends_at), NOON)
    with pytest.raises(TooManyAttempts) as refusal:
        limit.check_counted(Failures(4, ends_at), NOON + 20 * SECOND)
    assert refusal.value.retry_after == 40 * SECOND


def test_both_names_of_an_account_count_together_and_nobodys_apart() -> None:
    user = a_user("ada")
    by_email, by_name = LoginName.parse("ada@example.com"), LoginName.parse("ADA")
    assert failures_at_login(by_email, user) == failures_at_login(by_name, user)
    assert failures_at_login(by_email, user) == failures_of(user.id)
    assert failures_at_login(by_email, None) != failures_at_login(by_name, None)


@pytest.mark.parametrize(
    "spellings",
    [
        ("nobody", "NOBODY", " nobody", "nobody\t", "\u3000nobody\u00a0", "ｎｏｂｏｄｙ", "ⓝobody"),
        ("straße", "STRASSE", "strasse", "ＳＴＲＡＳＳＥ"),
        ("caf\u00e9", "cafe\u0301", "CAF\u00c9"),
        ("no@example.com", "NO@Example.COM", " no@example.com\n"),
        ("a@b@c", "A@B@C"),
    ],
)
def test_spellings_of_one_name_count_as_one(spellings: tuple[str, ...]) -> None:
    subjects = {failures_at_login(LoginName.parse(text), None) for text in spellings}
    assert len(subjects) == 1
