"""Audio that was made in parts, joined so that a player takes it for one.

A joint is told of every piece in its order and of each part's end, and gives what may be passed on.
It holds back no more than what it needs to tell a head or a tail from sound.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from services.voice.domain.audio_format import AudioFormat

_LARGEST_HEAD = 1 << 20  # what comes before the sound and is larger than this is no head


class Joint(Protocol):
    """Joins the parts of one speech."""

    @property
    def seconds(self) -> float:
        """How long the whole parts are that came so far."""
        ...

    def add(self, piece: bytes) -> bytes:
        """A piece of the part that is coming; answers what of it is to be heard."""
        ...

    def end_part(self) -> bytes:
        """The part is whole; answers what was held back of it."""
        ...


def joint_for(format_: AudioFormat, parts: int) -> Joint:
    """The way to join so many parts of that format. A single one stays as it comes."""
    return _Raw(format_) if parts == 1 else _JOINTS[format_.codec](format_, parts)


class _Raw:
    """Samples after samples; nothing stands between them."""

    def __init__(self, format_: AudioFormat, _parts: int = 1) -> None:
        self._bytes = 0
        self._rate = format_.bytes_per_second

    @property
    def seconds(self) -> float:
        return self._bytes / self._rate

    def add(self, piece: bytes) -> bytes:
        self._bytes += len(piece)
        return piece

    def end_part(self) -> bytes:
        return b""


class _Mp3:
    """Frames after frames. What describes a single part is left out: tags, and the frame that tells
    a part's length, by which a player would end with the first part."""

    def __init__(self, format_: AudioFormat, _parts: int) -> None:
        self._rate = format_.samples_per_second
        self._samples = 0
        self._next_frame = 0  # bytes until it begins
        self._head: bytearray | None = bytearray()
        self._tail = b""

    @property
    def seconds(self) -> float:
        return self._samples / self._rate

    def add(self, piece: bytes) -> bytes:
        if self._head is not None:
            self._head += piece
            end = _end_of_mp3_head(self._head)
            if end is None and len(self._head) < _LARGEST_HEAD:
                return b""
            piece, self._head = bytes(self._head[end or 0 :]), None
        held = self._tail + piece
        heard = max(0, len(held) - _ID3V1_BYTES)
        self._tail = held[heard:]
        self._count(held, heard)
        return held[:heard]

    def end_part(self) -> bytes:
        rest = self._tail + bytes(self._head or b"")
        self._head, self._tail = bytearray(), b""
        if rest.startswith(b"TAG"):
            rest = b""
        self._count(rest, len(rest))
        self._next_frame = 0
        return rest

    def _count(self, frames: bytes, end: int) -> None:
        """Frames are of unequal length, so that it is them that tell the time."""
        at = self._next_frame
        while at < end:
            length = _mp3_frame_bytes(frames[at : at + 4])
            if length is None:
                at += 1
                continue
            self._samples += 1152 if frames[at + 1] & 8 else 576
            at += length
        self._next_frame = at - end


_ID3V1_BYTES = 128
# Bits and samples a second of MPEG 1 (3) and MPEG 2 (2), layer 3, by their index in a frame's head.
_MP3_KILOBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = {3: (44_100, 48_000, 32_000, 0), 2: (22_050, 24_000, 16_000, 0)}


def _end_of_mp3_head(head: bytearray) -> int | None:
    """Where the sound begins; None while that can't be told."""
    start = 0
    while head[start : start + 3] == b"ID3":
        if len(head) < start + 10:
            return None
        size = head[start + 6 : start + 10]
        start += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    if len(head) < start + 4:
        return None
    length = _mp3_frame_bytes(head[start : start + 4])
    if length is None:
        return start
    if len(head) < start + length:
        return None
    frame = head[start : start + length]
    tells_length = any(mark in frame[:64] for mark in (b"Xing", b"Info", b"VBRI"))
    return start + length if tells_length else start


def _mp3_frame_bytes(head: bytes | bytearray) -> int | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version = head[1] >> 3 & 3
    if version not in _MP3_RATES or head[1] >> 1 & 3 != 1:
        return None
    kilobits, rate = _MP3_KILOBITS[version][head[2] >> 4], _MP3_RATES[version][head[2] >> 2 & 3]
    if not kilobits or not rate:
        return None
    return (144 if version == 3 else 72) * kilobits * 1000 // rate + (head[2] >> 1 & 1)


class _Wav:
    """One head, whose lengths say "until the end", as a head does that is written beforehand."""

    def __init__(self, format_: AudioFormat, _parts: int) -> None:
        self._samples = _Raw(format_)
        self._head: bytearray | None = bytearray()
        self._left = 0  # of the samples, in the part that is coming
        self._has_begun = False

    @property
    def seconds(self) -> float:
        return self._samples.seconds

    def add(self, piece: bytes) -> bytes:
        opening = b""
        if self._head is not None:
            self._head += piece
            found = _wav_samples(self._head)
            if found is None and len(self._head) < _LARGEST_HEAD:
                return b""
            start, self._left = found or (0, len(self._head))
            if not self._has_begun:
                self._has_begun, opening = True, endless_wav(bytes(self._head[:start]))
            piece, self._head = bytes(self._head[start:]), None
        # What comes after the samples describes this part alone.
        piece = piece[: self._left]
        self._left -= len(piece)
        return opening + self._samples.add(piece)

    def end_part(self) -> bytes:
        rest = bytes(self._head or b"")
        self._head = bytearray()
        return self._samples.add(rest)


_UNTIL_THE_END = 0xFFFFFFFF


def _wav_samples(head: bytearray) -> tuple[int, int] | None:
    """Where the samples start, and how many bytes of them there are; None while unknown."""
    at = 12
    while len(head) >= at + 8:
        (size,) = struct.unpack_from("<I", head, at + 4)
        if head[at : at + 4] == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return None


def endless_wav(head: bytes) -> bytes:
    """The head of a file whose length is not known yet."""
    return _wav_of(head, _UNTIL_THE_END, _UNTIL_THE_END)


def wav_with_length(beginning: bytes, size: int) -> bytes:
    """The beginning of a file of so many bytes, with its head put right if that was written before
    its length was known; that of any other is left as it is."""
    found = _wav_samples(bytearray(beginning[:_LARGEST_HEAD])) if beginning[:4] == b"RIFF" else None
    if found is None or found[1] != _UNTIL_THE_END:
        return beginning
    start = found[0]
    return _wav_of(beginning[:start], size - 8, size - start) + beginning[start:]


def _wav_of(head: bytes, file_bytes: int, sample_bytes: int) -> bytes:
    if len(head) < 16:
        return head
    whole, samples = struct.pack("<I", file_bytes), struct.pack("<I", sample_bytes)
    return head[:4] + whole + head[8:-4] + samples


class _Opus:
    """One logical stream: its pages are numbered and timed anew. Streams one after the other in a
    file would do as well, but several players stop after the first."""

    def __init__(self, _format: AudioFormat, parts: int) -> None:
        self._coming = bytearray()
        self._number = 0  # of the next page
        self._samples = 0  # in all packets so far
        self._samples_before = 0  # in the parts before the one that is coming
        self._unfinished = 0  # samples in a packet that goes on in the next page
        self._parts_before, self._last_part = 0, parts - 1

    @property
    def seconds(self) -> float:
        return self._samples / _OPUS_RATE

    def add(self, piece: bytes) -> bytes:
        self._coming += piece
        heard = bytearray()
        while (page := self._next_page()) is not None:
            heard += self._page(page)
        return bytes(heard)

    def end_part(self) -> bytes:
        rest, self._coming = bytes(self._coming), bytearray()
        self._parts_before += 1
        self._samples_before, self._unfinished = self._samples, 0
        return rest

    def _next_page(self) -> bytearray | None:
        coming = self._coming
        if len(coming) < 27 or len(coming) < 27 + coming[26]:
            return None
        length = 27 + coming[26] + sum(coming[27 : 27 + coming[26]])
        if len(coming) < length:
            return None
        page, self._coming = coming[:length], coming[length:]
        return page

    def _page(self, page: bytearray) -> bytes:
        body = 27 + page[26]
        is_head = page[body : body + 4] == b"Opus"  # OpusHead or OpusTags
        if is_head and self._parts_before:
            return b""
        position = 0 if is_head else self._position_after(page)
        if self._parts_before < self._last_part:
            page[5] &= ~_OGG_ENDS
        struct.pack_into("<qII", page, 6, position, _OGG_SERIAL, self._number)
        self._number += 1
        struct.pack_into("<I", page, 22, 0)
        struct.pack_into("<I", page, 22, _ogg_checksum(bytes(page)))
        return bytes(page)

    def _position_after(self, page: bytearray) -> int:
        ended, self._unfinished = _opus_samples(page, self._unfinished)
        self._samples += ended
        (told,) = struct.unpack_from("<q", page, 6)
        if page[5] & _OGG_ENDS and self._parts_before == self._last_part and told >= 0:
            # The last page may hold more than is to be heard.
            return int(self._samples_before + told)
        return self._samples if ended else _NO_PACKET_ENDS


_OPUS_RATE = 48_000
_OGG_ENDS = 4
_NO_PACKET_ENDS = -1
_OGG_SERIAL = 0x56_4F_49_43
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def _ogg_checksum(page: bytes) -> int:
    """Ogg's CRC takes bits in the other order than zlib's does, whose is a hundred times faster
    than one that is written here."""
    found = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(found.to_bytes(4, "big").translate(_REVERSED), "little")


def _opus_samples(page: bytearray, unfinished: int) -> tuple[int, int]:
    """How many samples, at 48 kHz, the packets hold that end on a page, and the one that does not.
    `unfinished`: those of the packet that the page begins in the middle of."""
    at = start = 27 + page[26]
    samples, going_on = 0, unfinished if page[5] & 1 else 0
    for length in page[27 : 27 + page[26]]:
        if at == start and not going_on and length:
            going_on = _opus_packet_samples(page[start : start + 2])
        at += length
        if length < 255:
            samples, going_on, start = samples + going_on, 0, at
    return samples, going_on


def _opus_packet_samples(packet: bytearray) -> int:
    """By a packet's first bytes: https://www.rfc-editor.org/rfc/rfc6716#section-3.1"""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        samples = (480, 960, 1920, 2880)[config % 4]
    elif config < 16:
        samples = (480, 960)[config % 2]
    else:
        samples = (120, 240, 480, 960)[config % 4]
    if code == 3:
        return samples * (packet[1] & 63 if len(packet) > 1 else 0)
    return samples * (1 if code == 0 else 2)


_JOINTS: Mapping[str, Callable[[AudioFormat, int], Joint]] = {
    "mp3": _Mp3,
    "pcm": _Raw,
    "ulaw": _Raw,
    "alaw": _Raw,
    "wav": _Wav,
    "opus": _Opus,
}
