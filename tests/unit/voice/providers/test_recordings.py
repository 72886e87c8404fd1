"""What is a recording, and how long it is."""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Callable

import pytest

from services.voice.domain.clone import Recording, Upload
from services.voice.domain.errors import SampleRefused
from services.voice.providers.recordings import Recordings
from tests.support.recordings import flac, m4a, mp3, ogg, wav, webm


async def examine(content: bytes) -> Recording:
    upload = Upload("take", io.BytesIO(content), len(content))
    return await Recordings().examine(3, upload)


async def refusal(content: bytes) -> str:
    with pytest.raises(SampleRefused) as refused:
        await examine(content)
    assert refused.value.facts["sample"] == 3
    return str(refused.value.facts["reason"])


KINDS: list[tuple[Callable[[float], bytes], str, str]] = [
    (wav, "audio/wav", ".wav"),
    (mp3, "audio/mpeg", ".mp3"),
    (flac, "audio/flac", ".flac"),
    (ogg, "audio/ogg", ".ogg"),
    (m4a, "audio/mp4", ".m4a"),
    (webm, "audio/webm", ".webm"),
]


@pytest.mark.parametrize(("make", "content_type", "suffix"), KINDS)
@pytest.mark.parametrize("seconds", [0.5, 2.5, 61])
async def test_a_recording_tells_its_kind_length_and_digest(
    make: Callable[[float], bytes], content_type: str, suffix: str, seconds: float
) -> None:
    content = make(seconds)
    found = await examine(content)
    assert (found.content_type, found.suffix) == (content_type, suffix)
    assert found.length.total_seconds() == pytest.approx(seconds, rel=0.02, abs=0.05)
    assert found.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_tag_before_mp3_is_passed_over() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    assert (await examine(tag + mp3(3))).length.total_seconds() == pytest.approx(3, rel=0.02)


async def test_a_stream_that_could_not_know_its_length_is_as_long_as_it_is() -> None:
    whole = bytearray(wav(3))
    at = whole.index(b"data") + 4
    for unknown in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"):
        whole[at : at + 4] = unknown
        assert (await examine(bytes(whole))).length.total_seconds() == pytest.approx(3)


@pytest.mark.parametrize(
    "content",
    [wav(4)[:-9_000], flac(60)[:100], m4a(4)[:-100], webm(4, told_length=True)[:-50]],
)
async def test_one_that_ends_before_its_end_is_cut_off(content: bytes) -> None:
    assert await refusal(content) == "cut_off"


async def test_mp3_that_tells_how_many_frames_it_has_is_held_to_it() -> None:
    whole = mp3(5)
    frame = whole[:104]
    for told, reason in ((len(whole) // 104, None), (10_000, "cut_off")):
        head = frame[:21] + b"Xing\x00\x00\x00\x01" + told.to_bytes(4, "big") + bytes(71)
        content = head + whole[104:]
        if reason is None:
            assert (await examine(content)).length.total_seconds() == pytest.approx(5, rel=0.02)
        else:
            assert await refusal(content) == reason


async def test_kinds_made_to_be_cut_are_as_long_as_what_is_there() -> None:
    for content in (ogg(5)[:-60], webm(5)[:-100], mp3(5)[: len(mp3(5)) * 4 // 5]):
        assert 3.5 < (await examine(content)).length.total_seconds() < 4.5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"I am no sound. " * 500,
        b"%PDF-1.7" + bytes(5_000),
        b"\xff\xd8\xff\xe0" + b"\x00\x10JFIF" * 900,  # a picture
        b"\xff\xfb" + b"x" * 5_000,
        b"ID3" + b"x" * 5_000,
        b"RIFF\x00\x00\x00\x00WAVE",
        b"RIFF\x00\x00\x00\x00WAVEfmt \xff\xff\xff\xff" + bytes(100),
        b"RIFF\x00\x00\x00\x00AVI " + bytes(100),
        b"OggS" + b"\xff" * 300,
        b"fLaC",
        b"fLaC" + bytes(200),
        b"\x00\x00\x00\x18ftypM4A " + bytes(100),
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3" + b"\xff" * 100,
        m4a(4, handler=b"vide"),
        webm(4, track_type=1),
    ],
)
async def test_what_is_none_is_told_so(content: bytes) -> None:
    assert await refusal(content) == "no_audio"


@pytest.mark.parametrize("make", [make for make, _, _ in KINDS])
async def test_whatever_bytes_are_changed_it_is_a_recording_or_refused(
    make: Callable[[float], bytes],
) -> None:
    chance, whole = random.Random(7), make(1.5)
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            changed[chance.randrange(min(len(changed), 400))] = chance.randrange(256)
        try:
            assert 0 < (await examine(bytes(changed))).length.total_seconds() < 86_400
        except SampleRefused as refused:
            assert refused.facts["reason"] in {"no_audio", "cut_off"}


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x08moov" * 300_000,
        b"\x00\x00\x00\x08ftyp" + b"\x00\x20\x00\x00moov" * 300_000,
        b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * 1_000_000,
        b"RIFF\x00\x00\x00\x00WAVE" + b"junk\x00\x00\x00\x00" * 300_000,
    ],
)
async def test_a_file_made_to_take_long_takes_little(hostile: bytes) -> None:
    started = time.process_time()
    assert await refusal(hostile) in {"no_audio", "cut_off"}
    assert time.process_time() - started < 2
