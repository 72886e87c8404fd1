"""A body that its worker's parent has not read, when Celery sends it again."""

from __future__ import annotations

import zlib

import pytest
from kombu import serialization
from kombu.utils import json

from shared.messaging.packed import unpacked
from shared.messaging.unread import CONTENT_TYPE, NAME

TEXT = '[[], {"batch": {"events": ["é"]}}, {}]'.encode()
PACKED = zlib.compress(TEXT)


def sent_again(body: bytes) -> bytes:
    """What the task is given of a message that is sent again as often as a child may end with it,
    in Celery's own form."""
    _arguments, named, _options = serialization.loads(
        body, CONTENT_TYPE, "binary", accept=[CONTENT_TYPE]
    )
    for _time in range(4):
        named = json.loads(json.dumps(named))
    given = named[NAME]
    assert type(given) is bytes
    return given


@pytest.mark.parametrize("body", [TEXT, PACKED])
def test_what_is_sent_again_is_sent_unpacked_as_a_release_before_reads_it(body: bytes) -> None:
    assert sent_again(body) == TEXT


@pytest.mark.parametrize("body", [PACKED[:-1], b"x", b"\xff\xfe", zlib.compress(b"\xff\xfe")])
def test_what_is_none_stays_so(body: bytes) -> None:
    again = sent_again(body)
    assert again in (body, b"\xff\xfe")


@pytest.mark.parametrize("body", [TEXT, PACKED])
def test_the_reader_is_given_plain_bytes(body: bytes) -> None:
    _arguments, named, _options = serialization.loads(
        body, CONTENT_TYPE, "binary", accept=[CONTENT_TYPE]
    )
    assert type(unpacked(named[NAME])) is bytes
