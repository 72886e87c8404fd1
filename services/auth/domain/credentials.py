"""What somebody shows to sign in."""

from __future__ import annotations

from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login and its proofs, and where they come from."""

    login: str
    password: Password
    otp: str | None
    origin: Origin
