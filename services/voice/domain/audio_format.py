"""The formats in which audio is delivered, and which of them a tier's quality includes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from shared.values import dataclass

_CONTENT_TYPE_OF = {
    "mp3": "audio/mpeg",
    "pcm": "audio/pcm",  # signed 16 bit little endian, mono, without a header
    "wav": "audio/wav",
    "opus": "audio/ogg",
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
}

CONTENT_TYPES = frozenset(_CONTENT_TYPE_OF.values())
_BYTES_PER_SAMPLE = {"pcm": 2, "wav": 2, "ulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A format by its name, `codec_samplerate[_kilobits]`."""

    name: str

    @property
    def codec(self) -> str:
        return self.name.partition("_")[0]

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPE_OF[self.codec]

    @property
    def is_live(self) -> bool:
        """Whether it can be made while its text is still being written. WAV has its length in its
        head, so the vendor makes it only as a whole."""
        return self.codec != "wav"

    @property
    def samples_per_second(self) -> int:
        return int(self.name.split("_")[1])

    @property
    def bytes_per_second(self) -> int:
        """Of a file with a header, without it."""
        bytes_per_sample = _BYTES_PER_SAMPLE.get(self.codec)
        if bytes_per_sample is not None:
            return bytes_per_sample * self.samples_per_second
        return int(self.name.split("_")[2]) * 1000 // 8


@dataclass(frozen=True, slots=True)
class Quality:
    """What a quality of the tier table includes; `default` serves who names no format."""

    default: AudioFormat
    formats: frozenset[AudioFormat]


def _formats(*names: str) -> frozenset[AudioFormat]:
    return frozenset(AudioFormat(name) for name in names)


# The specification names qualities and leaves their meaning open. The steps follow the vendor's own
# plans (https://elevenlabs.io/docs/api-reference/text-to-speech/convert): what its every plan can
# make, then what it makes from its Creator plan on, then what needs its Pro plan, so that a larger
# tier never grants less than the user's vendor plan could use.
_STANDARD = _formats(
    "mp3_22050_32",
    "mp3_24000_48",
    "mp3_44100_32",
    "mp3_44100_64",
    "mp3_44100_96",
    "mp3_44100_128",
    "ulaw_8000",
    "alaw_8000",
)
_HIGH = _STANDARD | _formats(
    "mp3_44100_192",
    "pcm_8000",
    "pcm_16000",
    "pcm_22050",
    "pcm_24000",
    "pcm_32000",
    "opus_48000_32",
    "opus_48000_64",
    "opus_48000_96",
    "opus_48000_128",
)
_ULTRA = _HIGH | _formats(
    "opus_48000_192",
    "pcm_44100",
    "pcm_48000",
    "wav_8000",
    "wav_16000",
    "wav_22050",
    "wav_24000",
    "wav_32000",
    "wav_44100",
    "wav_48000",
)

# Each default is one that the vendor makes on every plan: a request without wishes should not fail
# for the plan that its user has there.
QUALITIES: Mapping[str, Quality] = MappingProxyType(
    {
        "standard": Quality(AudioFormat("mp3_44100_64"), _STANDARD),
        "high": Quality(AudioFormat("mp3_44100_128"), _HIGH),
        "ultra": Quality(AudioFormat("mp3_44100_128"), _ULTRA),
    }
)

# What some of the vendor's plans do not make, and the best of the same codec that they may. Which
# plans make opus, the vendor does not say.
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "mp3_44100_192": "mp3_44100_128",
        "pcm_44100": "pcm_32000",
        "pcm_48000": "pcm_32000",
        "wav_44100": "wav_32000",
        "wav_48000": "wav_32000",
        "opus_48000_192": "opus_48000_128",
    }
)


def depends_on_plan(format_: AudioFormat) -> bool:
    """Whether a refusal that names the user's plan may be about this format."""
    return format_.name in _INSTEAD or format_.codec == "opus"


def instead_of(format_: AudioFormat, quality: Quality) -> list[AudioFormat]:
    """What to ask for where the user's plan at the vendor makes no such audio, the best first."""
    same_codec = _INSTEAD.get(format_.name)
    others = [AudioFormat(same_codec)] if same_codec is not None else []
    return [other for other in dict.fromkeys((*others, quality.default)) if other != format_]
