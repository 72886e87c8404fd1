"""Long messages in kombu's own packed form, and what comes that is none."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Message, compression

from shared.messaging import packed
from shared.messaging.batch import UnreadableBody
from shared.messaging.packed import METHOD, Packed, leave_packed, unpacked

TEXT = b'[[], {"batch": {"events": []}}, {}]'


@pytest.fixture
def left_packed() -> Iterator[None]:
    """As in a worker's process."""
    before = compression.get_decoder(METHOD)
    leave_packed()
    yield
    compression.register(packed.pack, before, METHOD, packed._NAMES)


def body_of(came: bytes, method: str | None) -> Any:
    """A message's body as kombu hands it on; its stubs know no bytes."""
    message: Any = Message
    return message(came, headers={"compression": method}).body


@given(st.binary())
def test_zlib_reads_what_we_pack_and_we_read_what_it_does(body: bytes) -> None:
    ours, method = compression.compress(body, "zlib")
    assert method == METHOD
    assert zlib.decompress(ours) == body
    for level in (0, 1, 6, 9):
        assert unpacked(zlib.compress(body, level)) == body
    assert unpacked(ours) == body


def test_kombu_packs_and_unpacks_for_whoever_names_the_method() -> None:
    body, method = compression.compress(TEXT, METHOD)
    assert body_of(body, method) == TEXT


@pytest.mark.usefixtures("left_packed")
def test_a_worker_is_handed_the_body_as_it_came() -> None:
    body = body_of(zlib.compress(TEXT), METHOD)
    assert isinstance(body, Packed)
    assert unpacked(body) == TEXT
    assert not isinstance(body_of(TEXT, None), Packed)


@pytest.mark.parametrize("body", [TEXT, b"", b"\xff\xfe", b"[1"])
def test_what_was_not_packed_stays_as_it_is(body: bytes) -> None:
    assert unpacked(body) is body


def test_a_text_is_its_bytes_also_with_half_a_character() -> None:
    assert unpacked("[1]") == b"[1]"
    assert unpacked('["\ud800"]') == b'["\xed\xa0\x80"]'
    assert unpacked("x") == b"x"


WHOLE = zlib.compress(TEXT * 50)


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"xyz and no zlib",
        WHOLE[:-1],
        WHOLE[:40],
        WHOLE + b"more",
        WHOLE[:30] + bytes([WHOLE[30] ^ 1]) + WHOLE[31:],
    ],
)
def test_what_is_no_whole_stream_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableBody):
        unpacked(body)


def test_what_would_fill_the_memory_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_MOST_BYTES", 1000)
    assert len(unpacked(zlib.compress(bytes(1000)))) == 1000
    with pytest.raises(UnreadableBody):
        unpacked(zlib.compress(bytes(1001)))
