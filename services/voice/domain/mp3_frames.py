"""MPEG audio, layer 3, as it is written: frames, their heads, and the bytes that they lend each
other. Versions 1 and 2 (from 16 kHz on): ISO/IEC 11172-3 and 13818-3.

A frame's sound (its *main data*) may begin in the unused ends of the frames before it; how many
bytes before its own stands in the frame. So what others have left in a frame is needed after it
has gone.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from shared.values import dataclass

TICKS_PER_SECOND = 14_112_000  # the least in which every frame's length is a whole number
USUAL_DELAY = 576  # samples that an encoder puts before the sound, where it does not say how many
_LONGEST_DELAY = 2 * 1152  # what says more is mistaken

_KILOBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000)}
_HIGHEST_KILOBITS = 14  # as an index
_MONO = 3
# What is written with this gain, and in numbers up to 15, is below the last of 16 bits, or hardly
# above it: 210 is full scale for a one, and four less are half as much.
_SILENT_GAIN = 130
_FIRST_TABLE_OF_LARGER = 16  # of those by which numbers are written
_HEAD_BYTES = 4
_CHECKSUM_BYTES = 2


def _every_head() -> Mapping[int, tuple[int, int]]:
    """What the first 23 bits of a frame say: its length in bytes, and in ticks."""
    heads = {}
    for version, rates in _RATES.items():
        samples = 1152 if version == 3 else 576
        for rate_index, rate in enumerate(rates):
            for bits_index, kilobits in enumerate(_KILOBITS[version][1:], 1):
                length = samples // 8 * kilobits * 1000 // rate
                for unprotected in (0, 1):
                    head = 0x7FF << 12 | version << 10 | 1 << 8 | unprotected << 7
                    head |= bits_index << 3 | rate_index << 1
                    ticks = samples * TICKS_PER_SECOND // rate
                    heads[head] = length, ticks
                    heads[head | 1] = length + 1, ticks
    return MappingProxyType(heads)


HEADS = _every_head()
"""By a frame's first 23 bits: its bytes, and its length in ticks."""

head_at = struct.Struct(">I").unpack_from
"""Four bytes of a frame's head; shifted by nine they are a key of `HEADS`."""


def frame_bytes(audio: bytes | bytearray, at: int) -> int:
    """How long the frame is that begins there; 0 if none does, or its head has not come."""
    if len(audio) < at + _HEAD_BYTES:
        return 0
    return HEADS.get(head_at(audio, at)[0] >> 9, (0, 0))[0]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `body_at` is where its own bytes for sound begin."""

    raw: bytes
    body_at: int
    borrowed: int  # bytes of the frames before, in which its sound begins
    sound_bits: int
    is_silent: bool  # padding: no sound, or so little that nobody hears it

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Version, sampling rate, and whether it has one channel: what its neighbours share."""
        return self.raw[1] & 0x18, self.raw[2] & 0x0C, self.raw[3] >> 6 == _MONO

    @property
    def samples(self) -> int:
        return 1152 if self.raw[1] & 8 else 576

    @property
    def ticks(self) -> int:
        return HEADS[head_at(self.raw)[0] >> 9][1]

    @property
    def body(self) -> bytes:
        return self.raw[self.body_at :]

    def lending(self, sound: bytes) -> bytes | None:
        """The frame with the beginning of the next one's sound in its unused end. It is made longer
        where that is too small: each frame says its own bit rate. None if it can't be."""
        if not sound:
            return self.raw
        used = max(0, -(-self.sound_bits // 8) - self.borrowed)
        if used > len(self.raw) - self.body_at:
            return None
        needed = self.body_at + used + len(sound)
        raw = self.raw if needed <= len(self.raw) else self._longer(needed)
        return None if raw is None else raw[: len(raw) - len(sound)] + sound

    def _longer(self, needed: int) -> bytes | None:
        """The frame with at least so many bytes. None as well if it has a checksum, which is of its
        bit rate too."""
        if not self.raw[1] & 1:
            return None
        for index in range((self.raw[2] >> 4) + 1, _HIGHEST_KILOBITS + 1):
            longer = bytearray(self.raw)
            longer[2] = index << 4 | longer[2] & 0x0F
            length = frame_bytes(longer, 0)
            if length >= needed:
                return bytes(longer).ljust(length, b"\0")
        return None


def _frame_of(raw: bytes) -> Frame:
    """A whole frame, taken apart."""
    is_first_version, is_mono = bool(raw[1] & 8), raw[3] >> 6 == _MONO
    channels = 1 if is_mono else 2
    about_at = _HEAD_BYTES + (0 if raw[1] & 1 else _CHECKSUM_BYTES)
    if is_first_version:
        length, granules, granule_bits, window_at = (17 if is_mono else 32), 2 * channels, 59, 33
        borrowed_bits, first_granule = 9, 9 + (5 if is_mono else 3) + 4 * channels
    else:
        length, granules, granule_bits, window_at = (9 if is_mono else 17), channels, 63, 38
        borrowed_bits, first_granule = 8, 8 + channels
    about, all_bits = int.from_bytes(raw[about_at : about_at + length], "big"), 8 * length

    def number(at: int, bits: int) -> int:
        return about >> all_bits - at - bits & (1 << bits) - 1

    def is_silent(start: int) -> bool:
        at = start + window_at  # whether it is an unusual one, and then its tables
        tables = [at + 4, at + 9] if number(at, 1) else [at + 1, at + 6, at + 11]
        is_small = all(number(each, 5) < _FIRST_TABLE_OF_LARGER for each in tables)
        return not number(start, 12) or (is_small and number(start + 21, 8) <= _SILENT_GAIN)

    starts = [first_granule + each * granule_bits for each in range(granules)]
    sound_bits, has_none = sum(number(each, 12) for each in starts), all(map(is_silent, starts))
    return Frame(raw, about_at + length, number(0, borrowed_bits), sound_bits, has_none)


def frames_of(audio: bytes | bytearray, at: int, count: int) -> tuple[list[Frame], bool]:
    """So many frames one after the other, or as many as there are; and whether more may still
    come: the next one is not whole yet."""
    frames: list[Frame] = []
    while len(frames) < count:
        length = frame_bytes(audio, at)
        if len(audio) < at + max(length, _HEAD_BYTES):
            return frames, True
        if not length:
            return frames, False
        frames.append(_frame_of(bytes(audio[at : at + length])))
        at += length
    return frames, False


def end_of_head(head: bytes | bytearray) -> tuple[int, int] | None:
    """Where the sound begins, after tags and the frame that tells a part's length; and how many
    samples the encoder put before it. None while that can't be told."""
    start = 0
    while head[start : start + 3] == b"ID3":
        if len(head) < start + 10:
            return None
        size = head[start + 6 : start + 10]
        start += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    if len(head) < start + _HEAD_BYTES:
        return None
    length = frame_bytes(head, start)
    if len(head) < start + length:
        return None
    frame = bytes(head[start : start + length])
    if any(mark in frame[:64] for mark in (b"Xing", b"Info", b"VBRI")):
        return start + length, _told_delay(frame)
    return start, USUAL_DELAY


def _told_delay(frame: bytes) -> int:
    """The encoder's delay, as LAME and who followed it write it behind what Xing wrote."""
    at = max(frame[:64].find(b"Xing"), frame[:64].find(b"Info"))
    if at < 0:
        return USUAL_DELAY
    flags = frame[at + 7] if len(frame) > at + 7 else 0
    at += 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    if not frame[at : at + 4].isalnum() or len(frame) < at + 24:
        return USUAL_DELAY
    delay = frame[at + 21] << 4 | frame[at + 22] >> 4
    return delay if 0 < delay <= _LONGEST_DELAY else USUAL_DELAY
