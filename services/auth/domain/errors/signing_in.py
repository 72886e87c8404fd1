"""Failures of signing in and of staying signed in."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from shared.errors import (
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    Unauthenticated,
    Unavailable,
)


class WrongCredentials(Unauthenticated):
    """Unknown user, wrong password, or an address that is not confirmed where that is needed: the
    same answer for all, so that accounts can't be probed."""

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__(
            "The login or the password is wrong, or the e-mail address is not confirmed yet."
        )


class WrongPassword(Forbidden):
    """A signed-in user gave a wrong current password. No 401: their sign-in is still good."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class TooManyAttempts(LimitReached):
    """Too many wrong guesses, or too much asked for from one network; for as long as it says, not
    even a right guess is looked at."""

    code = "too_many_attempts"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("Too many attempts. Try again later.", retry_after=retry_after)


class UnknownClientAddress(Invalid):
    """From whom a sign-in comes can't be told, so that its failures would count for nobody."""

    code = "unknown_client_address"

    def __init__(self) -> None:
        super().__init__("The address that this request comes from can't be determined.")


class PasswordsBusy(Unavailable):
    """So many passwords wait to be checked that one more would wait too long."""

    code = "passwords_busy"

    def __init__(self) -> None:
        super().__init__("Too many sign-ins at once. Try again in a moment.")


class RefreshRefused(Unauthenticated):
    """The refresh token is none of ours, or its sign-in has ended or expired."""

    code = "refresh_refused"

    def __init__(self) -> None:
        super().__init__("The refresh token is not valid. Sign in again.")


class RefreshReused(Unauthenticated):
    """A refresh token came a second time: one of two holders is a thief, so the sign-in ends."""

    code = "refresh_reused"

    def __init__(self) -> None:
        super().__init__(
            "The refresh token was used before. This sign-in has ended; sign in again."
        )


class SignInUndone(Unauthenticated):
    """A refresh token of a time that a restored backup has undone: nobody has done wrong."""

    code = "sign_in_undone"

    def __init__(self) -> None:
        super().__init__(
            "The service went back to an earlier state, which does not know this sign-in's last"
            " steps. Sign in again."
        )


class SignInNotFound(NotFound):
    """Also raised for another user's sign-in, so that ids can't be probed."""

    code = "sign_in_not_found"

    def __init__(self, sign_in_id: UUID) -> None:
        super().__init__("No such sign-in.", sign_in_id=str(sign_in_id))


class SigningKeysUnavailable(Unavailable):
    """The file of signing keys is missing or unusable; an operator has to restore it."""

    code = "signing_keys_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Nobody can sign in at the moment: the signing keys are not available.",
            retry_after=timedelta(seconds=30),
        )
