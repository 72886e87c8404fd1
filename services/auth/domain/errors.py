"""The failures that auth expects."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    Unauthenticated,
    Unavailable,
)


class InvalidEmail(Invalid):
    """The text is no e-mail address."""

    code = "invalid_email"

    def __init__(self) -> None:
        super().__init__("This is no e-mail address.", field="email")


class InvalidUsername(Invalid):
    """The text breaks the rules for usernames, all of which the message tells."""

    code = "invalid_username"

    def __init__(self) -> None:
        super().__init__(
            "A username has 1 to 80 printable characters, no @, and no space at its ends.",
            field="username",
        )


class PasswordRefused(Invalid):
    """The password is too easily guessed; `reason` is a stable word, `message` a sentence."""

    code = "password_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


class AccountExists(Conflict):
    """The e-mail address or the username is taken; which of them stays unsaid on purpose."""

    code = "account_exists"

    def __init__(self) -> None:
        super().__init__("There is an account with this e-mail address or username already.")


class UsernameTaken(Conflict):
    """Somebody else has this username. Told only to those who have an account."""

    code = "username_taken"

    def __init__(self) -> None:
        super().__init__("This username is taken.")


class WrongCredentials(Unauthenticated):
    """Unknown user or wrong password: the same answer, so that accounts can't be probed."""

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__("The login or the password is wrong.")


class WrongPassword(Forbidden):
    """A signed-in user gave a wrong current password. No 401: their sign-in is still good."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class TooManyAttempts(LimitReached):
    """Too many wrong passwords; until the window ends even the right one is not looked at."""

    code = "too_many_attempts"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("Too many wrong passwords. Try again later.", retry_after=retry_after)


class AccountInactive(Forbidden):
    """The account was switched off. Told only to those who know its password."""

    code = "account_inactive"

    def __init__(self) -> None:
        super().__init__("This account is not active.")


class AccountGone(Unauthenticated):
    """The access token is genuine, but its user does not exist any more."""

    code = "account_gone"

    def __init__(self) -> None:
        super().__init__("This account does not exist any more.")


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


class SignInNotFound(NotFound):
    """Also raised for another user's sign-in, so that ids can't be probed."""

    code = "sign_in_not_found"

    def __init__(self, sign_in_id: UUID) -> None:
        super().__init__("No such sign-in.", sign_in_id=str(sign_in_id))


class UserNotFound(NotFound):
    """Another service asked about a user that does not exist."""

    code = "user_not_found"

    def __init__(self, user_id: UUID) -> None:
        super().__init__("No such user.", user_id=str(user_id))


class SigningKeysUnavailable(Unavailable):
    """The file of signing keys is missing or unusable; an operator has to restore it."""

    code = "signing_keys_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Nobody can sign in at the moment: the signing keys are not available.",
            retry_after=timedelta(seconds=30),
        )


class PasswordsBusy(Unavailable):
    """So many passwords wait to be checked that one more would wait too long."""

    code = "passwords_busy"

    def __init__(self) -> None:
        super().__init__("Too many sign-ins at once. Try again in a moment.")
