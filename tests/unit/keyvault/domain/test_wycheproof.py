"""The envelope's cipher against Wycheproof: cases that are known to catch broken ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from services.keyvault.domain.envelope import NotAuthentic, seal, unseal

HEAD = b"kv1\x01"
_FILE = Path(__file__).with_name("wycheproof_aes_256_gcm.json")


class Case(NamedTuple):
    """One of Wycheproof's, in hexadecimal."""

    number: int
    result: str
    key: str
    nonce: str
    bound_to: str
    content: str
    ciphertext: str
    tag: str

    def __str__(self) -> str:
        return f"{self.number}-{self.result}"

    @property
    def place(self) -> Anywhere:
        return Anywhere(bytes.fromhex(self.bound_to))

    @property
    def envelope(self) -> bytes:
        return HEAD + bytes.fromhex(self.nonce + self.ciphertext + self.tag)


@dataclass(frozen=True)
class Anywhere:
    """A place without a key's name, bound to given bytes."""

    bound_to: bytes
    key_name: bytes = b""


CASES = [Case(*row) for row in json.loads(_FILE.read_text())["cases"]]
VALID = [case for case in CASES if case.result == "valid"]
INVALID = [case for case in CASES if case.result == "invalid"]


def test_all_cases_for_our_sizes_are_here() -> None:
    assert Counter(case.result for case in CASES) == {"valid": 39, "invalid": 27}
    sizes = {(len(case.key), len(case.nonce), len(case.tag)) for case in CASES}
    assert sizes == {(64, 24, 32)}


@pytest.mark.parametrize("case", VALID, ids=str)
def test_a_valid_case_opens(case: Case) -> None:
    assert unseal(bytes.fromhex(case.key), case.place, case.envelope).hex() == case.content


@pytest.mark.parametrize("case", VALID, ids=str)
def test_a_valid_case_is_sealed_as_published(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = bytes.fromhex(case.nonce)
    monkeypatch.setattr(os, "urandom", lambda size: nonce[:size])
    sealed = seal(bytes.fromhex(case.key), case.place, bytes.fromhex(case.content))
    assert sealed == case.envelope


@pytest.mark.parametrize("case", INVALID, ids=str)
def test_an_invalid_case_is_refused(case: Case) -> None:
    with pytest.raises(NotAuthentic):
        unseal(bytes.fromhex(case.key), case.place, case.envelope)


@pytest.mark.parametrize("case", VALID, ids=str)
def test_a_valid_case_elsewhere_is_refused(case: Case) -> None:
    """Bound to anything else, none of them opens."""
    elsewhere = Anywhere(case.place.bound_to + b"\x00")
    with pytest.raises(NotAuthentic):
        unseal(bytes.fromhex(case.key), elsewhere, case.envelope)
