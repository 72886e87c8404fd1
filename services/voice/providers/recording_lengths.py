"""How long a recording is, by the boxes, pages and frames that it is made of.

Anybody may have written these bytes: what is read is bounded, nothing is unpacked, and tags, of
which some are compressed, are passed over. All raise CutOff or NoAudio; whatever else goes wrong
here is a file that is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

# What a head promises may lack some bytes, such as the padding of a last chunk.
_NEARLY_WHOLE = 0.98
_LARGEST_DIRECTORY = 1 << 20  # ten minutes of AAC take a tenth of it
_MOST_ELEMENTS = 200_000  # ten minutes of WebM take a sixth of it


class CutOff(Exception):
    """The file ends before its head says."""


class NoAudio(Exception):
    """It is not what it began as."""


def wav_seconds(content: BinaryIO, size: int) -> float:
    """By its chunks: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html"""
    content.seek(12)
    bytes_per_second: int = 0
    while len(head := content.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        if name == b"fmt ":
            (bytes_per_second,) = struct.unpack_from("<I", content.read(length), 8)
        elif name == b"data":
            present = size - content.tell()
            # Who writes a stream can't know the length; it is told as the largest, or as none.
            if length in (0, 0xFFFFFFFF):
                length = present
            if present < length * _NEARLY_WHOLE:
                raise CutOff
            return float(length / bytes_per_second)
        else:
            content.seek(length + length % 2, 1)
    raise NoAudio


# By version (MPEG 1; 2 and 2.5) and layer (I, II, III), in kbit/s:
# http://www.mp3-tech.org/programmer/frame_header.html
_KBIT_PER_SECOND = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES_IN_FRAME = {(1, 1): 384, (1, 2): 1_152, (1, 3): 1_152, (2, 1): 384, (2, 2): 1_152}
_HALVED = {3: 0, 2: 1, 0: 2}  # how often the rates of MPEG 1 are, in MPEG 1, 2 and 2.5
_LEAST_FRAMES = 4  # one may be an accident


def mp3_seconds(content: BinaryIO, _size: int) -> float:
    """By its frames, one after the other."""
    start = _behind_tags(content)
    frames = seconds = told = 0.0
    at = start
    while (found := _frame(content, at)) is not None:
        length, duration = found
        if not frames:
            told = _frames_told(content, at, length)
        frames, seconds, at = frames + 1, seconds + duration, at + length
    if frames < _LEAST_FRAMES:
        raise NoAudio
    if frames < told * _NEARLY_WHOLE:
        raise CutOff
    return seconds


def _behind_tags(content: BinaryIO) -> int:
    """Where the first frame begins: ID3 tells its length, seven bits in a byte."""
    at = 0
    while True:
        content.seek(at)
        head = content.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return at
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        at += 10 + length


def _frame(content: BinaryIO, at: int) -> tuple[int, float] | None:
    """How many bytes and seconds the frame there has; None when there is none."""
    content.seek(at)
    head = int.from_bytes(content.read(4), "big")
    version, layer = head >> 19 & 3, 4 - (head >> 17 & 3)
    bitrate, rate = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    kind = (1 if version == 3 else 2, layer)
    hertz = (44_100, 48_000, 32_000)[rate] >> _HALVED[version]
    samples = _SAMPLES_IN_FRAME.get(kind, 576)
    kbits, padding, slot = _KBIT_PER_SECOND[kind][bitrate - 1], head >> 9 & 1, 4 * (layer == 1) or 1
    length = (samples // 8 * kbits * 1_000 // hertz // slot + padding) * slot
    return length, samples / hertz


def _frames_told(content: BinaryIO, at: int, length: int) -> int:
    """How many frames the first one says that there are, if it does."""
    content.seek(at)
    frame = content.read(length)
    for mark in (b"Xing", b"Info"):
        where = frame.find(mark, 0, 64)
        if where >= 0 and frame[where + 7] & 1:
            return int.from_bytes(frame[where + 8 : where + 12], "big")
    return 0


def flac_seconds(content: BinaryIO, size: int) -> float:
    """By its first block (RFC 9639, 8.2)."""
    content.seek(4)
    head = content.read(4 + 34)
    if len(head) < 38 or head[0] & 0x7F:
        raise NoAudio
    rate, samples = _flac_rate_and_samples(head[4:])
    frame_samples = int.from_bytes(head[6:8], "big")
    smallest_frame = int.from_bytes(head[8:11], "big")
    if size < samples / frame_samples * smallest_frame * _NEARLY_WHOLE:
        raise CutOff
    return samples / rate


def _flac_rate_and_samples(block: bytes) -> tuple[int, int]:
    packed = int.from_bytes(block[10:18], "big")
    return packed >> 44, packed & ((1 << 36) - 1)


def ogg_seconds(content: BinaryIO, _size: int) -> float:
    """By the last of its pages that is there (RFC 3533, 6), so that a cut one is as long as it is:
    it was made to be cut anywhere."""
    beginning = content.read(256)
    rate, skipped = _ogg_rate(beginning[27 + beginning[26] :])
    content.seek(0)
    last = 0
    while len(head := content.read(27)) == 27 and head[:4] == b"OggS":
        (position,) = struct.unpack_from("<q", head, 6)
        lengths = content.read(head[26])
        content.seek(sum(lengths), 1)
        last = max(last, position)
    return (last - skipped) / rate


def _ogg_rate(packet: bytes) -> tuple[int, int]:
    """Positions in a second, and how many of them are not heard."""
    if packet.startswith(b"OpusHead"):
        return 48_000, int(struct.unpack_from("<H", packet, 10)[0])
    if packet.startswith(b"\x01vorbis"):
        return int(struct.unpack_from("<I", packet, 12)[0]), 0
    if packet.startswith(b"\x7fFLAC"):
        return _flac_rate_and_samples(packet[17:])[0], 0
    raise NoAudio


def m4a_seconds(content: BinaryIO, size: int) -> float:
    """By what its directory says of the first track that is sound (ISO/IEC 14496-12, 8.4)."""
    for name, track in _boxes(_directory(content, size)):
        if name != b"trak":
            continue
        media = dict(_boxes(dict(_boxes(track))[b"mdia"]))
        if media[b"hdlr"][8:12] == b"soun":
            head = media[b"mdhd"]
            unit, length = struct.unpack_from(
                ">IQ" if head[0] else ">II", head, 20 if head[0] else 12
            )
            return float(length / unit)
    raise NoAudio


def _directory(content: BinaryIO, size: int) -> bytes:
    """The box of that kind; there must be none at the outermost level that goes on behind the
    file's end (ISO/IEC 14496-12, 4.2)."""
    at, found = 0, b""
    for _ in range(_MOST_ELEMENTS):
        if at >= size:
            break
        content.seek(at)
        head = content.read(16)
        if len(head) < 8:
            raise CutOff
        length = int.from_bytes(head[:4], "big") or size - at
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or (head[4:8] == b"moov" and length > _LARGEST_DIRECTORY):
            raise NoAudio
        if head[4:8] == b"moov":
            content.seek(at + 8)
            found = content.read(length - 8)
        at += length
    if at != size:
        raise CutOff
    return found


def _boxes(within: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(within):
        length = int.from_bytes(within[at : at + 4], "big")
        if length < 8:
            raise NoAudio
        yield within[at + 4 : at + 8], within[at + 8 : at + length]
        at += length


_SEGMENT, _CLUSTER, _TRACKS = 0x18538067, 0x1F43B675, 0x1654AE6B
_INSIDE = {_SEGMENT, _CLUSTER, _TRACKS, 0x1549A966, 0xAE, 0xA0}
_SCALE, _TIMESTAMP, _TRACK_TYPE = 0x2AD7B1, 0xE7, 0x83
_BLOCKS = {0xA3, 0xA1}
_SOUND = 2


def webm_seconds(content: BinaryIO, size: int) -> float:
    """By the times of its blocks (RFC 9559): a browser that records tells no length."""
    nanoseconds, cluster, last, has_sound = 1_000_000, 0, 0, False
    for _ in range(_MOST_ELEMENTS):
        if content.tell() >= size:
            break
        name, length = _number(content, keep_mark=True), _number(content)
        if name in _INSIDE:
            if name == _SEGMENT and length is not None and content.tell() + length > size:
                raise CutOff
            continue
        if length is None or name is None:
            raise NoAudio
        value = content.read(min(length, 8))
        content.seek(length - len(value), 1)
        if name == _SCALE:
            nanoseconds = int.from_bytes(value, "big")
        elif name == _TRACK_TYPE:
            has_sound |= int.from_bytes(value, "big") == _SOUND
        elif name == _TIMESTAMP:
            cluster = int.from_bytes(value, "big")
        elif name in _BLOCKS:
            last = max(last, cluster + struct.unpack_from(">h", value, 1)[0])
    else:
        raise NoAudio
    if not has_sound:
        raise NoAudio
    return last * nanoseconds / 1e9


def _number(content: BinaryIO, *, keep_mark: bool = False) -> int | None:
    """A number whose first byte says how many follow; None when it stands for 'not known'."""
    first = content.read(1)[0]
    more = 8 - first.bit_length()
    value = int.from_bytes(bytes([first]) + content.read(more), "big")
    if keep_mark:
        return value
    value &= (1 << (7 * (more + 1))) - 1
    return None if value == (1 << (7 * (more + 1))) - 1 else value
