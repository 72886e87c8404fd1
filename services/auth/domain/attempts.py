"""How often a secret may be guessed."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.auth.domain.errors import TooManyAttempts
from services.auth.domain.user import LoginName, User
from shared.ids import UserId
from shared.values import dataclass

EVERYBODY = "everybody"
"""The subject under which all failures of this installation count."""

CLOCKS_APART = timedelta(minutes=5)
"""By how much the clocks of replicas may differ, and each goes on with the others' counts."""

_MINUTE = timedelta(minutes=1)
# Doubling more often than this passes any longest delay.
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Failures:
    """Wrong guesses at one subject, until when they are remembered, and the wait they brought."""

    count: int
    window_ends_at: datetime
    blocked_until: datetime | None = None


def _is_present(ends_at: datetime, length: timedelta, now: datetime) -> bool:
    """Whether a span that is so long at most, and ends then, has begun and is not over. One that
    ends much later began by a clock that was ahead, and was set right since: it would last until
    that time has come."""
    return now < ends_at <= now + length + max(length, CLOCKS_APART)


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """So many failures per window are free; from the last of them on each brings a wait, twice as
    long as the one before.

    It is forgotten once nothing has failed for a window after the wait, or by a success. There is
    no lock for good: whoever can guess could then shut out whomever they like.
    """

    failures: int
    window: timedelta
    first_delay: timedelta = timedelta(seconds=30)
    longest_delay: timedelta = timedelta(minutes=15)

    def check(self, failures: Failures | None, now: datetime) -> None:
        """Raises TooManyAttempts while another guess has to wait."""
        until = failures.blocked_until if failures else None
        if until is not None and _is_present(until, self.longest_delay, now):
            raise TooManyAttempts(retry_after=until - now)

    def after_one_more(self, failures: Failures | None, now: datetime) -> Failures:
        """The count with this failure in it."""
        longest = self.longest_delay + self.window
        if failures is None or not _is_present(failures.window_ends_at, longest, now):
            failures = Failures(0, now + self.window)
        count = failures.count + 1
        if count < self.failures:
            return Failures(count, failures.window_ends_at)
        blocked_until = now + self._delay(count - self.failures)
        return Failures(count, blocked_until + self.window, blocked_until)

    def _delay(self, doublings: int) -> timedelta:
        delay: timedelta = self.first_delay * 2 ** min(doublings, _MOST_DOUBLINGS)
        return min(delay, self.longest_delay)


@dataclass(frozen=True, slots=True)
class CeilingPerMinute:
    """So many failures of all together per minute; the next attempt waits for the minute's end.

    A spray over many accounts from many networks meets no other limit. The price: whoever can
    produce that many failures keeps everybody out, as long as they go on.
    """

    failures: int

    def check(self, failures: Failures | None, now: datetime) -> None:
        """Raises TooManyAttempts."""
        if failures is None or failures.count < self.failures:
            return
        if _is_present(failures.window_ends_at, _MINUTE, now):
            raise TooManyAttempts(retry_after=failures.window_ends_at - now)

    def window_from(self, now: datetime) -> datetime:
        """When a minute that begins now is over."""
        return now + _MINUTE


@dataclass(frozen=True, slots=True)
class AskingLimit:
    """So often per window may be asked, and as often again in the next: whoever goes on asking
    makes nobody behind the same address wait longer."""

    times: int
    window: timedelta

    def check(self, asked: Failures | None, now: datetime) -> None:
        """Raises TooManyAttempts if one more were too many."""
        if asked is None or asked.count < self.times:
            return
        if _is_present(asked.window_ends_at, self.window, now):
            raise TooManyAttempts(retry_after=asked.window_ends_at - now)

    def check_counted(self, asked: Failures, now: datetime) -> None:
        """Raises TooManyAttempts if the last that was counted was too many."""
        if asked.count > self.times:
            raise TooManyAttempts(retry_after=asked.window_ends_at - now)


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """How many failures strangers have: at one account, from one network, and all together."""

    account: AttemptLimit
    network: AttemptLimit
    everybody: CeilingPerMinute


def failures_at_login(name: LoginName, user: User | None) -> str:
    """Under which subject wrong passwords count: the account, whichever of its names was used.

    Names of nobody are counted alike, or their being unlimited would tell them apart.
    """
    return failures_of(user.id) if user else f"nobody:{name.spelling}"


def failures_of(user_id: UserId) -> str:
    """The subject of logins to an account."""
    return f"login:{user_id}"


def failures_from(network: str) -> str:
    """The subject of all logins from one network."""
    return f"network:{network}"


def failures_at_password_change(user_id: UserId) -> str:
    """Counted apart from logins, so that a stolen access token can't lock its owner out."""
    return f"password:{user_id}"


def failures_at_second_factor(user_id: UserId) -> str:
    """Counted apart from passwords: only who knows the password gets as far as this."""
    return f"otp:{user_id}"
