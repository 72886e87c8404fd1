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
from services.voice.domain.mp3_joint import Mp3Joint

_LARGEST_HEAD = 1 << 20  # what comes before the sound and is larger than this is no head


class Joint(Protocol):
    """Joins the parts of one speech."""

    @property
    def begins(self) -> float:
        """When the part that is coming begins, in seconds from the beginning of the first: the
        length of those before it. Until its first frames have come, what that probably is."""
        ...

    def add(self, piece: bytes) -> bytes:
        """A piece of the part that is coming; answers what is to be heard now."""
        ...

    def end_part(self) -> bytes:
        """The part is whole; answers what was held back and is to be heard before the next part
        comes."""
        ...

    def cut(self) -> bytes:
        """Nothing comes any more, of this part or another: answers what was held back and can be
        heard."""
        ...


def joint_for(format_: AudioFormat, parts: int) -> Joint:
    """The way to join so many parts of that format. A single one stays as it comes."""
    return _Raw(format_) if parts == 1 else _JOINTS[format_.codec](format_, parts)


class _Raw:
    """Samples after samples; nothing stands between them."""

    def __init__(self, format_: AudioFormat, _parts: int = 1) -> None:
        self._bytes = 0
        self._rate = format_.bytes_per_second
        self.begins = 0.0

    def add(self, piece: bytes) -> bytes:
        self._bytes += len(piece)
        return piece

    def end_part(self) -> bytes:
        self.begins = self._bytes / self._rate
        return b""

    def cut(self) -> bytes:
        return b""


class _Wav:
    """One head, whose lengths say "until the end", as a head does that is written beforehand."""

    def __init__(self, format_: AudioFormat, _parts: int) -> None:
        self._samples = _Raw(format_)
        self._head: bytearray | None = bytearray()
        self._left = 0  # of the samples, in the part that is coming
        self._has_begun = False

    @property
    def begins(self) -> float:
        return self._samples.begins

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
        rest = self._samples.add(bytes(self._head or b""))
        self._head = bytearray()
        return rest + self._samples.end_part()

    def cut(self) -> bytes:
        return b""  # a head without samples


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
    file would do as well, but several players stop after the first. A last packet that is mostly
    padding is left out, since only the end of a stream can say how much of it is to be heard."""

    def __init__(self, _format: AudioFormat, parts: int) -> None:
        self._coming = bytearray()
        self._number = 0  # of the next page
        self._samples = 0  # in all packets so far
        self._samples_before = 0  # in the parts before the one that is coming
        self._unfinished = 0  # samples in a packet that goes on in the next page
        self._parts_before, self._last_part = 0, parts - 1

    @property
    def begins(self) -> float:
        return self._samples_before / _OPUS_RATE

    def add(self, piece: bytes) -> bytes:
        self._coming += piece
        heard = bytearray(self._no_page())
        while (page := self._next_page()) is not None:
            heard += self._page(page) + self._no_page()
        return bytes(heard)

    def end_part(self) -> bytes:
        rest, self._coming = bytes(self._coming), bytearray()
        self._parts_before += 1
        self._samples_before, self._unfinished = self._samples, 0
        return rest

    def cut(self) -> bytes:
        return b""  # a page that is not whole can't be read

    def _no_page(self) -> bytes:
        """What comes before the next page and is none."""
        start = self._coming.find(_OGG_PAGE)
        end = max(0, len(self._coming) - len(_OGG_PAGE) + 1) if start < 0 else start
        found = bytes(self._coming[:end])
        del self._coming[:end]
        return found

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
        if page[5] & _OGG_ENDS and self._parts_before < self._last_part:
            page, position = self._without_padding(page, position)
            if not page[26]:
                return b""
            page[5] &= ~_OGG_ENDS
        struct.pack_into("<qII", page, 6, position, _OGG_SERIAL, self._number)
        self._number += 1
        struct.pack_into("<I", page, 22, 0)
        struct.pack_into("<I", page, 22, _ogg_checksum(bytes(page)))
        return bytes(page)

    def _without_padding(self, page: bytearray, position: int) -> tuple[bytearray, int]:
        """The last page of a part that another one follows, and its new position."""
        (told,) = struct.unpack_from("<q", page, 6)
        padding = self._samples - self._samples_before - told if told >= 0 else 0
        found = _without_last_packet(page)
        if found is None or padding < found[1] / 2:
            return page, position
        self._samples -= found[1]
        return found[0], self._samples

    def _position_after(self, page: bytearray) -> int:
        ended, self._unfinished = _opus_samples(page, self._unfinished)
        self._samples += ended
        (told,) = struct.unpack_from("<q", page, 6)
        if page[5] & _OGG_ENDS and self._parts_before == self._last_part and told >= 0:
            # The last page may hold more than is to be heard.
            return int(self._samples_before + told)
        return self._samples if ended else _NO_PACKET_ENDS


_OPUS_RATE = 48_000
_OGG_PAGE = b"OggS"
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


def _without_last_packet(page: bytearray) -> tuple[bytearray, int] | None:
    """The page without it, and how many samples it holds; None if no packet is whole on it."""
    body = 27 + page[26]
    lengths = page[27:body]
    if not lengths or lengths[-1] == 255:
        return None
    first = len(lengths) - 1
    while first and lengths[first - 1] == 255:
        first -= 1
    start = len(page) - sum(lengths[first:])
    samples = _opus_packet_samples(page[start : start + 2]) if start < len(page) else 0
    if not samples or (not first and page[5] & 1):
        return None
    return page[:26] + bytes([first]) + lengths[:first] + page[body:start], samples


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
    "mp3": Mp3Joint,
    "pcm": _Raw,
    "ulaw": _Raw,
    "alaw": _Raw,
    "wav": _Wav,
    "opus": _Opus,
}
