"""The file of keys that kept speeches are sealed with: usable as a whole, or not at all."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from services.voice.providers.kept_speech_keys import parse_keys
from shared.watched_file import UnusableFile


def a_file(*keys: tuple[Any, int]) -> str:
    """Versions, and how many bytes the key of each has."""
    entries = [{"version": v, "key": b64encode(bytes(size)).decode()} for v, size in keys]
    return json.dumps({"sealing_keys": entries})


def test_each_version_has_its_key() -> None:
    assert dict(parse_keys(a_file((1, 32), (7, 32)))) == {1: bytes(32), 7: bytes(32)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        a_file(),
        a_file((1, 32), (1, 32)),
        a_file((0, 32)),
        a_file((1 << 32, 32)),
        a_file((1, 32), (2, 31)),
        a_file((None, 32)),
    ],
)
def test_a_file_that_is_wrong_in_anything_is_not_used(text: str) -> None:
    with pytest.raises(UnusableFile):
        parse_keys(text)
