"""Which keys are good: what a key is worth is written in the key itself."""

from enum import StrEnum
from hashlib import sha256
from typing import Final

DIGEST_LENGTH: Final = 16


class Verdict(StrEnum):
    """What a vendor thinks of a key; the value names the refusal that says so."""

    GOOD = "good"
    MISSING = "no_key"
    INVALID = "invalid_key"
    LIMITED = "missing_scope"
    NO_QUOTA = "quota"
    UNREACHABLE = "unavailable"
    RESET = "connection_reset"


_MARKS: Final = (
    ("invalid", Verdict.INVALID),
    ("unreachable-reset", Verdict.RESET),
    ("unreachable", Verdict.UNREACHABLE),
    ("limited", Verdict.LIMITED),
    ("noquota", Verdict.NO_QUOTA),
)


def judge(key: str | None, *, generates: bool) -> Verdict:
    """`limited-read` spoils only calls that read, `limited-generate` only those that generate."""
    if not key:
        return Verdict.MISSING
    for mark, verdict in _MARKS:
        if mark in key:
            other = f"{mark}-read" if generates else f"{mark}-generate"
            return Verdict.GOOD if other in key else verdict
    return Verdict.GOOD


def on_free_plan(key: str) -> bool:
    """A key that contains `free` belongs to a voice account without paid features."""
    return "free" in key


def digest(key: str | None) -> str:
    """The only form in which a key is kept: the first 16 hex digits of its SHA-256."""
    return sha256(key.encode()).hexdigest()[:DIGEST_LENGTH] if key else ""
