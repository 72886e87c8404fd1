"""Passwords: as typed, as kept, and which ones are refused."""

from __future__ import annotations

from dataclasses import field
from functools import cache
from pathlib import Path

from services.auth.domain.errors import PasswordRefused
from shared.values import dataclass

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 256
# Shorter names occur in passwords by chance: nobody's passphrase should fail for being called Al.
_SHORTEST_GUESSABLE_NAME = 4


@dataclass(frozen=True, slots=True)
class Password:
    """A password exactly as its user typed it: not trimmed, not normalised, never cut."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is kept of a password: Argon2's encoded form, with salt and parameters."""

    encoded: str = field(repr=False)


def check_strength(password: Password, *, email_local_part: str, username: str) -> None:
    """Raises PasswordRefused. Length is what counts; nobody is told to add a digit."""
    text = password.text
    if len(text) < SHORTEST_PASSWORD:
        raise PasswordRefused("too_short", f"Use at least {SHORTEST_PASSWORD} characters.")
    if len(text) > LONGEST_PASSWORD:
        raise PasswordRefused("too_long", f"Use at most {LONGEST_PASSWORD} characters.")
    if not _is_text(text):
        raise PasswordRefused("not_text", "The password holds half a character.")
    folded = text.casefold()
    if folded in common_passwords():
        raise PasswordRefused("common", "This password is among those that are tried first.")
    for reason, name in (("contains_email", email_local_part), ("contains_username", username)):
        if len(name) >= _SHORTEST_GUESSABLE_NAME and name.casefold() in folded:
            raise PasswordRefused(reason, "The password must not contain your name or address.")


@cache
def common_passwords() -> frozenset[str]:
    """Well-known passwords that are long enough to pass otherwise."""
    lines = Path(__file__).with_name("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line.casefold() for line in lines if line and not line.startswith("# "))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
