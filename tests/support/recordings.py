"""Recordings for tests, made of sums and silence: nobody speaks in them."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Mapping
from typing import Any

_MP3_FRAME = bytes([0xFF, 0xFB, 0x10, 0xC4]) + bytes(144 * 32_000 // 44_100 - 4)
_SAMPLES_IN_MP3_FRAME = 1_152


def wav(seconds: float, rate: int = 8_000) -> bytes:
    """A tone, 16 bits a sample."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        samples = (int(8_000 * math.sin(at / 5)) for at in range(int(rate * seconds)))
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def mp3(seconds: float) -> bytes:
    """Silent frames of 32 kbit/s."""
    return _MP3_FRAME * math.ceil(seconds * 44_100 / _SAMPLES_IN_MP3_FRAME)


def flac(seconds: float, rate: int = 16_000) -> bytes:
    """A first block that tells the length, and as many bytes as that takes at least."""
    samples = int(seconds * rate)
    told = (rate << 44) | (15 << 36) | samples
    block = struct.pack(">HH", 4_096, 4_096) + (14).to_bytes(3, "big") + (20).to_bytes(3, "big")
    block += told.to_bytes(8, "big") + bytes(16)
    frames = (b"\xff\xf8" + bytes(12)) * math.ceil(samples / 4_096)
    return b"fLaC" + bytes([0x80]) + len(block).to_bytes(3, "big") + block + frames


def ogg(seconds: float) -> bytes:
    """Opus: its two heads, and pages of a second each."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48_000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 4) + b"test" + struct.pack("<I", 0)
    pages = [_page(head, 0, 0, flags=2), _page(tags, 1, 0)]
    pages += [
        _page(bytes(40), second + 1, int(48_000 * min(second, seconds)))
        for second in range(1, math.ceil(seconds) + 1)
    ]
    return b"".join(pages)


def m4a(seconds: float, *, handler: bytes = b"soun") -> bytes:
    """The boxes that tell what it is and how long; what it sounds like is left out."""
    times = struct.pack(">IIIII", 0, 0, 0, 1_000, int(seconds * 1_000))
    entry = bytes(6) + struct.pack(">H", 1) + bytes(8) + struct.pack(">HHHHI", 1, 16, 0, 0, 8_000)
    cookie = bytes(4) + struct.pack(">IBBBBBBHIII", 4_096, 0, 16, 0, 0, 0, 1, 0, 0, 64_000, 8_000)
    stsd = _box(b"stsd", struct.pack(">II", 0, 1) + _box(b"alac", entry + _box(b"alac", cookie)))
    hdlr = _box(b"hdlr", bytes(8) + handler + bytes(13))
    media = _box(b"mdhd", times + bytes(4)) + hdlr
    media += _box(b"minf", _box(b"stbl", stsd))
    moov = _box(b"mvhd", times + bytes(80)) + _box(b"trak", _box(b"mdia", media))
    return _box(b"ftyp", b"M4A " + bytes(4)) + _box(b"moov", moov) + _box(b"mdat", bytes(500))


def webm(seconds: float, *, track_type: int = 2, told_length: bool = False) -> bytes:
    """As a browser writes it while recording: a cluster a second, none tells its length."""
    track = _element(b"\xae", _element(b"\xd7", b"\x01") + _element(b"\x83", bytes([track_type])))
    inside = _element(
        b"\x15\x49\xa9\x66", _element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(3, "big"))
    )
    inside += _element(b"\x16\x54\xae\x6b", track)
    for second in range(math.ceil(seconds)):
        inside += b"\x1f\x43\xb6\x75\xff" + _element(b"\xe7", (second * 1_000).to_bytes(4, "big"))
        for at in range(0, int(min(1, seconds - second) * 1_000) + 1, 250):
            inside += _element(b"\xa3", b"\x81" + struct.pack(">hB", at, 0x80) + bytes(20))
    head = _element(b"\x1a\x45\xdf\xa3", _element(b"\x42\x82", b"webm"))
    size = (len(inside) | 1 << 56).to_bytes(8, "big") if told_length else b"\x01" + b"\xff" * 7
    return head + b"\x18\x53\x80\x67" + size + inside


def _page(packet: bytes, sequence: int, position: int, flags: int = 0) -> bytes:
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 7, sequence, 0, 1)
    return head + bytes([len(packet)]) + packet


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def _element(name: bytes, content: bytes) -> bytes:
    return name + (len(content) | 1 << 28).to_bytes(4, "big") + content


def form_of(
    *samples: bytes, names: Mapping[int, str] | None = None, **fields: str
) -> dict[str, Any]:
    """A request's form: `client.post(…, **form_of(wav(12)))`; consent is given unless said."""
    names = names or {}
    return {
        "data": {"name": "Somebody", "consent": "true", **fields},
        "files": [
            ("samples", (names.get(position, f"take {position}.wav"), sample, "audio/wav"))
            for position, sample in enumerate(samples)
        ],
    }
