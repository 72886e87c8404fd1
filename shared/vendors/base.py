"""What there is to know about any vendor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from shared.registry import Registry
from shared.values import dataclass


class KeyStatus(StrEnum):
    """What a vendor's answer says about a key.

    `limited`: the vendor knows the key, but a permission or credit is missing. `unreachable`: the
    vendor could not tell us, so the key's stored status stays as it was.
    """

    VALID = "valid"
    INVALID = "invalid"
    LIMITED = "limited"
    UNREACHABLE = "unreachable"


Detail = bool | int | str


@dataclass(frozen=True, slots=True)
class Check:
    """The result of asking a vendor about a key. `error` is our own words, never the vendor's.

    `details` are facts with a value, such as how many voices there are, under names of ours.
    `retry_after`: how long a vendor that could not tell us wants to be left alone.
    """

    status: KeyStatus
    models: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    error: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a call; `body` is parsed JSON, or None."""

    status: int
    body: Any
    retry_after: timedelta | None = None


class Vendor(Protocol):
    """One vendor's facts."""

    name: str
    base_url: str  # the default; operators replace it by the setting PROVIDER_<NAME>_URL
    check_path: str  # a free call, relative to the base URL, that only a good key can make
    # More free calls, made for a key that is known to the vendor: what it can do, told elsewhere.
    further_paths: tuple[str, ...]

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        """The header that carries the key. Never the URL: those are logged."""
        ...

    def read_check(self, status: int, body: Any) -> Check:
        """Tell the answers to the free call apart; `body` is parsed JSON, or None."""
        ...

    def read_further(self, check: Check, answers: Mapping[str, Answer]) -> Check:
        """The check, with what the further calls told; one that failed has no answer here."""
        ...


vendors: Registry[Vendor] = Registry("vendor")


class TellsAll:
    """A vendor whose one free call tells everything."""

    further_paths: tuple[str, ...] = ()

    def read_further(
        self,
        check: Check,
        answers: Mapping[str, Answer],  # noqa: ARG002 - there are none
    ) -> Check:
        return check


def rows_of(body: Any, name: str) -> list[Any]:
    """The list that a vendor's answer holds under this name; empty for any other shape."""
    rows = body.get(name) if isinstance(body, dict) else None
    return rows if isinstance(rows, list) else []


def is_vendor_trouble(status: int) -> bool:
    """Answers that say nothing about the key."""
    return status in {408, 425, 429} or status >= 500


UNREACHABLE = Check(KeyStatus.UNREACHABLE, error="The vendor could not be asked; we try again.")
INVALID = Check(KeyStatus.INVALID, error="The vendor does not accept this key.")
LIMITED = Check(KeyStatus.LIMITED, error="The vendor knows this key but restricts what it may do.")
NO_QUOTA = Check(
    KeyStatus.LIMITED, error="The vendor knows this key, but its credit or quota is used up."
)
