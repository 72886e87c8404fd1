"""Silence in every format a vendor offers, as long as it takes to say the text.

Silence is enough for a test, costs next to nothing to make and still is what its name says: a
player opens it and its length follows from the text.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

#: A quick speaker; real voices need about half as much again.
SECONDS_PER_CHARACTER: Final = 0.04

_MPEG1_RATES: Final = {32: 1, 40: 2, 48: 3, 56: 4, 64: 5, 80: 6, 96: 7, 112: 8, 128: 9, 192: 11}
_MPEG2_RATES: Final = {32: 4, 48: 6, 64: 8}
_MPEG_SAMPLING: Final = {44100: 0, 22050: 0, 48000: 1, 24000: 1, 32000: 2, 16000: 2}
_OPUS_SILENCE: Final = b"\xf8\xff\xfe"
_OPUS_PACKETS_PER_PAGE: Final = 2
_AAC_SILENCE: Final = b"\x00\xc8\x00\x80\x23\x80"
_AAC_SAMPLING: Final = {24000: 6, 44100: 4}
_FLAC_BLOCK: Final = 576
# Samples that an mp3's encoder puts before the sound, and that come after it at the least.
_MP3_DELAY: Final = 576
_MP3_PADDING: Final = 576


@dataclass(frozen=True, slots=True)
class Clip:
    """A file as a header and frames of equal length in time; a decoder can start at any frame."""

    content_type: str
    seconds: float
    header: bytes
    frames: tuple[bytes, ...]

    def whole(self) -> bytes:
        return self.header + b"".join(self.frames)

    def pieces(self, count: int) -> list[bytes]:
        """That many parts; for it a clip is repeated unless a header tells its length."""
        frames = self.frames
        while len(frames) < count and not self.header:
            frames += self.frames
        count = min(count, len(frames))
        bounds = [position * len(frames) // count for position in range(count + 1)]
        parts = [b"".join(frames[start:end]) for start, end in pairwise(bounds)]
        parts[0] = self.header + parts[0]
        return parts


@lru_cache(maxsize=256)
def clip_for(name: str, characters: int) -> Clip:
    """`name` is a format as ElevenLabs spells them, such as `mp3_44100_128` or `pcm_16000`."""
    codec, *numbers = name.split("_")
    return _MAKERS[codec](max(1, characters) * SECONDS_PER_CHARACTER, *map(int, numbers))


def _count(seconds: float, rate: int, samples_per_frame: int) -> int:
    return max(1, round(seconds * rate / samples_per_frame))


def _mp3(seconds: float, rate: int, kilobits: int) -> Clip:
    """An all-zero frame body means: no bits spent, play silence. As an encoder does, it makes more
    of them than the sound takes."""
    first_version = rate >= 32000
    samples = 1152 if first_version else 576
    index = (_MPEG1_RATES if first_version else _MPEG2_RATES)[kilobits]
    version = 0xFB if first_version else 0xF3
    mono = 0xC4
    length = samples // 8 * kilobits * 1000 // rate
    frame = bytes((0xFF, version, index << 4 | _MPEG_SAMPLING[rate] << 2, mono))
    count = math.ceil((seconds * rate + _MP3_DELAY + _MP3_PADDING) / samples)
    return Clip("audio/mpeg", seconds, b"", (frame.ljust(length, b"\0"),) * count)


def _raw(content_type: str, silence: bytes) -> Callable[[float, int], Clip]:
    def make(seconds: float, rate: int) -> Clip:
        samples = rate // 50
        frames = (silence * samples,) * _count(seconds, rate, samples)
        return Clip(content_type, len(frames) / 50, b"", frames)

    return make


_pcm: Final = _raw("audio/pcm", b"\0\0")


def _wav(seconds: float, rate: int) -> Clip:
    pcm = _pcm(seconds, rate)
    size = sum(map(len, pcm.frames))
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    header = b"RIFF%bWAVEfmt %bdata%b" % (
        struct.pack("<I", 36 + size),
        form,
        struct.pack("<I", size),
    )
    return Clip("audio/wav", pcm.seconds, header, pcm.frames)


def _aac(seconds: float, rate: int) -> Clip:
    length = 7 + len(_AAC_SILENCE)
    profile = 1 << 6 | _AAC_SAMPLING[rate] << 2
    frame = bytes(
        (0xFF, 0xF1, profile, 1 << 6 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F)
    )
    frames = (frame + b"\xfc" + _AAC_SILENCE,) * _count(seconds, rate, 1024)
    return Clip("audio/aac", len(frames) * 1024 / rate, b"", frames)


def _opus(seconds: float, rate: int, kilobits: int) -> Clip:
    """Ogg pages; silence is the same in every bit rate."""
    packets = _count(seconds, 50, 1)
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, rate, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 9) + b"simulator" + struct.pack("<I", 0)
    header = _ogg_page([head], 0, 0, first=True) + _ogg_page([tags], 0, 1)
    pages = []
    for number, start in enumerate(range(0, packets, _OPUS_PACKETS_PER_PAGE), 2):
        here = min(_OPUS_PACKETS_PER_PAGE, packets - start)
        last = start + here >= packets
        pages.append(_ogg_page([_OPUS_SILENCE] * here, (start + here) * 960, number, last=last))
    return Clip("audio/ogg", packets / 50, header, tuple(pages))


def _ogg_page(
    packets: list[bytes], position: int, number: int, *, first: bool = False, last: bool = False
) -> bytes:
    flags = 2 * first | 4 * last
    serial = 0x51
    start = b"OggS" + struct.pack("<BBqII", 0, flags, position, serial, number)
    rest = bytes((len(packets), *map(len, packets))) + b"".join(packets)
    return start + struct.pack("<I", _crc(start + b"\0\0\0\0" + rest, 32, 0x04C11DB7)) + rest


def _flac(seconds: float, rate: int) -> Clip:
    count = _count(seconds, rate, _FLAC_BLOCK)
    total = count * _FLAC_BLOCK
    packed = rate << 44 | 15 << 36 | total
    info = struct.pack(">HH6xQ16x", _FLAC_BLOCK, _FLAC_BLOCK, packed)
    header = b"fLaC\x80" + struct.pack(">I", len(info))[1:] + info
    frames = tuple(_flac_frame(number) for number in range(count))
    return Clip("audio/flac", total / rate, header, frames)


def _flac_frame(number: int) -> bytes:
    """A block of 576 samples of 16 bits, sampling rate as in the header, all of them 0."""
    head = b"\xff\xf8\x20\x08" + chr(number).encode("utf-8", "surrogatepass")
    head += bytes((_crc(head, 8, 0x07),))
    frame = head + b"\0\0\0"
    return frame + struct.pack(">H", _crc(frame, 16, 0x8005))


def _crc(payload: bytes, width: int, polynomial: int) -> int:
    table, remainder, mask = _crc_table(width, polynomial), 0, (1 << width) - 1
    for byte in payload:
        remainder = (remainder << 8 & mask) ^ table[remainder >> width - 8 ^ byte]
    return remainder


@lru_cache
def _crc_table(width: int, polynomial: int) -> tuple[int, ...]:
    top, mask = 1 << width - 1, (1 << width) - 1
    table = []
    for byte in range(256):
        remainder = byte << width - 8
        for _ in range(8):
            remainder = (remainder << 1 ^ (polynomial if remainder & top else 0)) & mask
        table.append(remainder)
    return tuple(table)


_MAKERS: Final[dict[str, Callable[..., Clip]]] = {
    "mp3": _mp3,
    "pcm": _pcm,
    "wav": _wav,
    "ulaw": _raw("audio/basic", b"\xff"),
    "alaw": _raw("audio/x-alaw-basic", b"\xd5"),
    "aac": _aac,
    "opus": _opus,
    "flac": _flac,
}
