"""What somebody shows to sign in."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.origin import Origin
from services.auth.domain.password import Password


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login and its proofs, and where they come from."""

    login: str
    password: Password
    otp: str | None
    origin: Origin
