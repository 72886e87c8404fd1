"""Failures about authenticators and recovery codes."""

from __future__ import annotations

from datetime import timedelta

from shared.errors import Conflict, Forbidden, Unauthenticated, Unavailable


class OtpRequired(Forbidden):
    """The password is right, and the account has a second factor. Told only to who knows the
    password, and only while they don't have to wait for having guessed."""

    code = "otp_required"

    def __init__(self) -> None:
        super().__init__("Send a code of your authenticator, or a recovery code, as `otp`.")


class OtpRefused(Unauthenticated):
    """The password is right, the code is not: mistyped, too old, or used before."""

    code = "otp_refused"

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old, or was used before.")


class WrongOtp(Forbidden):
    """A signed-in user gave a wrong code. No 401: their sign-in is still good."""

    code = "wrong_otp"

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old, or was used before.")


class TotpActive(Conflict):
    """There is an authenticator already; remove it before setting up another."""

    code = "totp_active"

    def __init__(self) -> None:
        super().__init__("An authenticator is active already. Remove it first.")


class TotpNotBegun(Conflict):
    """There is no authenticator to be confirmed, or it was begun too long ago."""

    code = "totp_not_begun"

    def __init__(self) -> None:
        super().__init__("Begin with POST /auth/mfa/totp, then confirm within 15 minutes.")


class TotpNotActive(Conflict):
    """The account has no second factor."""

    code = "totp_not_active"

    def __init__(self) -> None:
        super().__init__("No authenticator is active.")


class SecondFactorUnreadable(Unavailable):
    """The sealing key of an authenticator's secret is gone; an operator has to restore it."""

    code = "second_factor_unreadable"

    def __init__(self) -> None:
        super().__init__(
            "Codes can't be checked at the moment; a recovery code works.",
            retry_after=timedelta(seconds=30),
        )
