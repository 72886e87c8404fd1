"""Audio of several parts as one: what players are told, and how long it is."""

from __future__ import annotations

import struct

import pytest

from services.voice.domain.audio_format import QUALITIES, AudioFormat
from services.voice.domain.joint import joint_for, wav_with_length
from tests.support.players import seconds_of
from tests.support.simulator.audio import Clip, clip_for

LENGTHS = (100, 33, 70)
ID3 = b"ID3\x04\0\0\0\0\0\x05hello"
TAG = b"TAG".ljust(128, b"x")


def clips(name: str) -> list[Clip]:
    return [clip_for(name, length) for length in LENGTHS]


def joined(name: str, parts: list[bytes], size: int = 1_000) -> tuple[bytes, float]:
    joint, heard = joint_for(AudioFormat(name), len(parts)), bytearray()
    for part in parts:
        for start in range(0, len(part), size):
            heard += joint.add(part[start : start + size])
        heard += joint.end_part()
    return bytes(heard), joint.seconds


ALL = sorted(format_.name for format_ in QUALITIES["ultra"].formats)


@pytest.mark.parametrize("name", ALL)
def test_every_format_is_as_long_as_its_parts(name: str) -> None:
    parts = clips(name)
    _, seconds = joined(name, [clip.whole() for clip in parts])
    assert seconds == pytest.approx(sum(clip.seconds for clip in parts), abs=0.001)


@pytest.mark.parametrize("size", [1, 13, 10**6])
def test_mp3_keeps_its_frames_and_nothing_else(size: int) -> None:
    frames = [clip.whole() for clip in clips("mp3_44100_128")]
    about = bytearray(clip_for("mp3_44100_128", 1).frames[0])
    about[36:40] = b"Xing"
    parts = [ID3 + bytes(about) + part + TAG for part in frames]
    heard, seconds = joined("mp3_44100_128", parts, size)
    assert heard == b"".join(frames)
    assert seconds_of("mp3", heard) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("size", [1, 13, 10**6])
def test_opus_becomes_one_stream(size: int) -> None:
    parts = clips("opus_48000_64")
    heard, _ = joined("opus_48000_64", [clip.whole() for clip in parts], size)
    length = seconds_of("opus", heard)
    assert length == pytest.approx(sum(clip.seconds for clip in parts))
    assert heard.count(b"OpusHead") == heard.count(b"OpusTags") == 1
    pages = heard.split(b"OggS")[1:]
    flags = [page[1] for page in pages]
    numbers = [struct.unpack_from("<I", page, 14)[0] for page in pages]
    positions = [struct.unpack_from("<q", page, 2)[0] for page in pages]
    assert flags == [2, *[0] * (len(pages) - 2), 4]
    assert numbers == list(range(len(pages)))
    assert positions == sorted(positions)


def test_a_wav_has_one_head_and_says_that_its_end_is_open() -> None:
    parts = [clip.whole() for clip in clips("wav_24000")]
    heard, _ = joined("wav_24000", [part + b"LIST\x04\0\0\0abcd" for part in parts], 7)
    samples = b"".join(part[44:] for part in parts)
    assert heard[44:] == samples
    assert struct.unpack_from("<I", heard, 40) == (0xFFFFFFFF,)
    whole = wav_with_length(heard[:50], len(heard)) + heard[50:]
    assert struct.unpack_from("<I", whole, 4) == (len(whole) - 8,)
    assert struct.unpack_from("<I", whole, 40) == (len(samples),)
    assert wav_with_length(parts[0], len(parts[0])) == parts[0]


@pytest.mark.parametrize("name", ["mp3_44100_128", "wav_24000", "opus_48000_64"])
def test_what_is_not_of_its_format_is_passed_on_all_the_same(name: str) -> None:
    heard, _ = joined(name, [b"no audio at all", b"nor this"])
    assert heard == b"no audio at allnor this"


def test_a_single_part_stays_as_it_comes() -> None:
    part = ID3 + b"anything" + TAG
    assert joined("mp3_44100_128", [part], 5)[0] == part
