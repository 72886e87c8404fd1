"""How often a wrong password may be tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.auth.domain.errors import TooManyAttempts
from services.auth.domain.user import LoginName, User
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Failures:
    """Wrong passwords for one subject since its window began."""

    count: int
    window_ends_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """So many failures per window; the next attempt waits for the window's end."""

    failures: int
    window: timedelta

    def check_before(self, failures: Failures | None, now: datetime) -> None:
        """Raises TooManyAttempts when no further attempt is allowed."""
        self._check(failures, now, allowed=self.failures - 1)

    def check_after(self, failures: Failures, now: datetime) -> None:
        """Raises TooManyAttempts when this failure itself was one too many.

        Guesses that run in parallel all pass the check before; here the surplus learns nothing.
        """
        self._check(failures, now, allowed=self.failures)

    def _check(self, failures: Failures | None, now: datetime, *, allowed: int) -> None:
        if failures and failures.window_ends_at > now and failures.count > allowed:
            raise TooManyAttempts(retry_after=failures.window_ends_at - now)


def failures_at_login(name: LoginName, user: User | None) -> str:
    """Under which subject wrong passwords count: the account, whichever of its names was used.

    Names of nobody are counted alike, or their being unlimited would tell them apart.
    """
    return failures_of(user.id) if user else f"nobody:{name.spelling}"


def failures_of(user_id: UserId) -> str:
    """The subject of logins to an account."""
    return f"login:{user_id}"


def failures_at_password_change(user_id: UserId) -> str:
    """Counted apart from logins, so that a stolen access token can't lock its owner out."""
    return f"password:{user_id}"
