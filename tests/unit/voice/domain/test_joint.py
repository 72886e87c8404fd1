"""Audio of several parts as one: what players are told, and how long it is."""

from __future__ import annotations

import struct

import pytest

from services.voice.domain.audio_format import QUALITIES, AudioFormat
from services.voice.domain.joint import joint_for, wav_with_length
from tests.support.mp3 import frames_in, made_frame
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
    return bytes(heard), joint.begins


ALL = sorted(format_.name for format_ in QUALITIES["ultra"].formats)
# Seconds: frames of an mp3 are left out as a whole, or not at all.
NEARLY, EXACTLY = 0.027, 0.001


@pytest.mark.parametrize("name", ALL)
def test_every_format_is_as_long_as_its_parts(name: str) -> None:
    parts = clips(name)
    heard, seconds = joined(name, [clip.whole() for clip in parts])
    whole, nearly = sum(clip.seconds for clip in parts), EXACTLY
    if name.startswith("mp3"):
        samples, rate = (1_152, 44_100) if "44100" in name else (576, int(name.split("_")[1]))
        assert len(frames_in(heard)) * samples / rate == pytest.approx(seconds, abs=EXACTLY)
        # What the encoder puts around the sound stays before the first and after the last part.
        whole, nearly = whole + (1_152 + samples / 2) / rate, 2 * NEARLY
    assert seconds == pytest.approx(whole, abs=nearly)


@pytest.mark.parametrize("name", ALL)
def test_a_part_begins_where_the_one_before_ends(name: str) -> None:
    joint, begins = joint_for(AudioFormat(name), 3), []
    for clip in clips(name):
        joint.add(clip.whole())
        begins.append(joint.begins)
        joint.end_part()
    first, second, _ = (clip.seconds for clip in clips(name))
    nearly = NEARLY if name.startswith("mp3") else EXACTLY
    between = begins[2] - begins[1]
    assert begins[0] == 0
    assert [begins[1], between] == pytest.approx([first, second], abs=nearly)


@pytest.mark.parametrize("size", [1, 13, 10**6])
def test_mp3_keeps_the_frames_that_sound_and_nothing_else(size: int) -> None:
    sounding = made_frame(sound_bits=(400, 400), fill=9)
    frames = [sounding * length for length in LENGTHS]
    about = bytearray(clip_for("mp3_44100_128", 1).frames[0])
    about[36:40] = b"Xing"
    parts = [ID3 + bytes(about) + part + TAG for part in frames]
    heard, seconds = joined("mp3_44100_128", parts, size)
    assert heard == sounding * (sum(LENGTHS) - 2)
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


def opus_part(packets: int, told: int) -> bytes:
    """Packets of 20 ms, of which no more than what is told is to be heard."""
    clip = clip_for("opus_48000_64", packets // 2)
    assert len(clip.frames) == packets // 2
    last = bytearray(clip.frames[-1])
    struct.pack_into("<q", last, 6, told)
    return clip.header + b"".join(clip.frames[:-1]) + bytes(last)


@pytest.mark.parametrize(
    ("padding", "left_out"), [(0, 0), (479, 0), (480, 1), (960, 1), (1_900, 1), (-1_000, 0)]
)
def test_a_last_packet_that_is_mostly_padding_is_left_out(padding: int, left_out: int) -> None:
    parts = [opus_part(10, 10 * 960 - padding), opus_part(10, 10 * 960 - 100)]
    heard, seconds = joined("opus_48000_64", parts)
    pages = heard.split(b"OggS")[1:]
    positions = [struct.unpack_from("<q", page, 2)[0] for page in pages[2:]]
    packets = [page[22] for page in pages[2:]]
    assert packets == [2, 2, 2, 2, 2 - left_out, 2, 2, 2, 2, 2]
    assert positions[4] == (10 - left_out) * 960
    assert positions[-1] == (20 - left_out) * 960 - 100
    assert seconds == pytest.approx((20 - left_out) / 50)
    assert [struct.unpack_from("<I", page, 14)[0] for page in pages] == list(range(12))
    length = seconds_of("opus", heard)
    assert length == pytest.approx(positions[-1] / 48_000)


def test_a_last_page_of_nothing_but_padding_is_left_out() -> None:
    clip = clip_for("opus_48000_64", 5)
    last = bytearray(clip.frames[-1])
    assert last[26] == 2
    one = bytearray(last[:26] + b"\1\3" + last[29:32])
    struct.pack_into("<q", one, 6, 8 * 960 + 1)
    part = clip.header + b"".join(clip.frames[:-1]) + bytes(one)
    heard, _ = joined("opus_48000_64", [part, clip.whole()])
    pages = heard.split(b"OggS")[1:]
    assert [page[22] for page in pages[2:]] == [2] * 9
    assert [page[1] for page in pages] == [2, *[0] * 9, 4]
    assert [struct.unpack_from("<I", page, 14)[0] for page in pages] == list(range(11))


@pytest.mark.parametrize("last", [b"\xff", b"\0"], ids=["goes on", "empty"])
def test_a_last_page_without_a_whole_packet_stays(last: bytes) -> None:
    clip = clip_for("opus_48000_64", 5)
    head = bytearray(clip.frames[-1][:26])
    struct.pack_into("<q", head, 6, 100)
    page = bytes(head) + b"\1" + last + b"\xf8" * last[0]
    heard, _ = joined("opus_48000_64", [clip.header + page, clip.whole()])
    assert heard.split(b"OggS")[3][22:] == page[26:]


def test_a_packet_that_began_on_the_page_before_stays() -> None:
    clip = clip_for("opus_48000_64", 5)
    begun = bytearray(clip.frames[-1][:26]) + b"\1\xff" + b"\xf8" * 255
    ended = bytearray(clip.frames[-1][:26]) + b"\1\3" + b"\xf8" * 3
    begun[5], ended[5] = 0, 4 | 1
    struct.pack_into("<q", begun, 6, -1)
    struct.pack_into("<q", ended, 6, 100)
    part = clip.header + b"".join(clip.frames[:-1]) + bytes(begun + ended)
    heard, _ = joined("opus_48000_64", [part, clip.whole()])
    pages = heard.split(b"OggS")[1:]
    assert [page[22:] for page in pages[6:8]] == [bytes(page[26:]) for page in (begun, ended)]


def test_what_stands_between_pages_is_passed_on() -> None:
    pages = [clip.whole() for clip in clips("opus_48000_64")]
    without, _ = joined("opus_48000_64", pages)
    for size in (1, 50, 10**6):
        parts = [b"?" * 100 + pages[0], pages[1] + b"!" * 100, pages[2]]
        heard, _ = joined("opus_48000_64", parts, size)
        others = [b"?" * 100, b"!" * 100]
        assert [heard.count(other) for other in others] == [1, 1]
        assert heard.replace(others[0], b"").replace(others[1], b"") == without


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
