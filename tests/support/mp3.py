"""Sound as mp3, by a real encoder and a real decoder."""

from __future__ import annotations

import array
import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass

import lameenc
import miniaudio

from services.voice.domain.mp3_frames import frame_bytes

CODEC_DELAY = 1_105  # samples: 576 of LAME, 529 of any decoder


@dataclass(frozen=True)
class Manner:
    """How a part is encoded. `kilobits` 0: as many as each frame takes."""

    format: str
    rate: int
    kilobits: int
    channels: int = 1

    @property
    def samples(self) -> int:
        """Of a frame."""
        return 1_152 if self.rate >= 32_000 else 576

    def encode(self, sound: array.array[int]) -> bytes:
        encoder = lameenc.Encoder()
        encoder.silence()
        encoder.set_in_sample_rate(self.rate)
        encoder.set_out_sample_rate(self.rate)
        encoder.set_channels(self.channels)
        encoder.set_quality(5)
        if self.kilobits:
            encoder.set_bit_rate(self.kilobits)
        else:
            encoder.set_vbr(4)
            encoder.set_vbr_quality(4)
        return bytes(encoder.encode(sound.tobytes())) + bytes(encoder.flush())

    def decode(self, audio: bytes) -> array.array[int]:
        heard = miniaudio.decode(
            audio,
            output_format=miniaudio.SampleFormat.SIGNED16,
            nchannels=self.channels,
            sample_rate=self.rate,
        )
        return array.array("h", heard.samples)

    def noise(self, samples: int, seed: int = 1) -> array.array[int]:
        """Unlike itself at any other moment, and the same each time; its highest tones are weak, so
        that an encoder keeps its shape."""
        chance, made = random.Random(seed), array.array("h")
        values = [0.0] * self.channels
        for _ in range(samples):
            for channel in range(self.channels):
                values[channel] = 0.85 * values[channel] + chance.uniform(-4_000, 4_000)
                made.append(round(values[channel]))
        return made


def frames_in(audio: bytes) -> list[bytes]:
    """Fails for what is not one frame after another."""
    return list(_frames_in(audio))


def _frames_in(audio: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(audio):
        length = frame_bytes(audio, at)
        assert length, f"no frame at {at}"
        assert at + length <= len(audio)
        yield audio[at : at + length]
        at += length


def found_at(sought: array.array[int], among: array.array[int], start: int, end: int) -> int:
    """Where between the two it is most like what is sought."""

    def likeness(at: int) -> int:
        return sum(map(operator.mul, sought, among[at : at + len(sought)]))

    return max(range(max(0, start), min(end, len(among) - len(sought))), key=likeness)


def longest_silence(sound: array.array[int], loudest: int = 200) -> int:
    """In samples of what is heard."""
    longest = so_far = 0
    for sample in sound:
        so_far = so_far + 1 if abs(sample) <= loudest else 0
        longest = max(longest, so_far)
    return longest


def made_frame(
    *,
    kilobits_index: int = 9,
    borrowed: int = 0,
    sound_bits: tuple[int, int] = (0, 0),
    gain: int = 200,
    table: int = 0,
    has_checksum: bool = False,
    fill: int = 0,
    head: tuple[int, int] = (0xFB, 0xC4),
) -> bytes:
    """A frame of one channel at 44.1 kHz that says what is wished of it; no decoder takes it.
    `table`: by which some of its numbers are written; from 16 on they may be larger than 15."""
    about = borrowed << (17 * 8 - 9)
    for granule, bits in enumerate(sound_bits):
        about |= bits << (17 * 8 - 18 - 59 * granule - 12)
        about |= gain << (17 * 8 - 18 - 59 * granule - 29)
        about |= table << (17 * 8 - 18 - 59 * granule - 39)
    first = bytes((0xFF, head[0] & ~has_checksum, kilobits_index << 4, head[1]))
    first += (b"\x12\x34" if has_checksum else b"") + about.to_bytes(17, "big")
    return first.ljust(frame_bytes(first, 0), bytes((fill,)))
