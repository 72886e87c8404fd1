"""Failures about an account: its address, its name, its password."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
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
            "A username has 1 to 80 visible characters, no @, and no space at its ends.",
            field="username",
        )


class AddressTaken(Conflict):
    """Another account has proven this address. Told only to who can read its mail."""

    code = "address_taken"

    def __init__(self) -> None:
        super().__init__("Another account has this e-mail address.")


class UsernameTaken(Conflict):
    """Somebody else has this username. No secret: a username is what others see of a user."""

    code = "username_taken"

    def __init__(self) -> None:
        super().__init__("This username is taken.")


class ProofRefused(Invalid):
    """The token of a mail is none of ours, or was used, replaced by a newer one or too late."""

    code = "proof_refused"

    def __init__(self) -> None:
        super().__init__("This link is not good any more. Ask for a new mail.")


class PasswordRefused(Invalid):
    """The password is too easily guessed; `reason` is a stable word, `message` a sentence."""

    code = "password_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


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


class NoSuchAccount(NotFound):
    """Nobody has this login. Told on the console alone."""

    code = "no_such_account"

    def __init__(self) -> None:
        super().__init__("There is no account with this address or username.")


class AddressClaimed(Conflict):
    """Several accounts have this address and none has proven it. Told on the console alone."""

    code = "address_claimed"

    def __init__(self, usernames: Sequence[str]) -> None:
        named = ", ".join(map(repr, usernames))
        super().__init__(
            "Several accounts have this address, and none of them has proven it. Say which one by"
            f" its username: {named}."
        )


class AddressUnproven(Conflict):
    """Who this account belongs to is not proven, so it gets no role. Told on the console alone."""

    code = "address_unproven"

    def __init__(self) -> None:
        super().__init__(
            "The address of this account is not proven: anybody may have opened it. Its owner has"
            " to confirm the address first."
        )


class EmailNotVerified(Forbidden):
    """What is asked for belongs to whoever reads this address's mail; that is not proven yet."""

    code = "email_not_verified"

    def __init__(self) -> None:
        super().__init__("Confirm your e-mail address first.")
