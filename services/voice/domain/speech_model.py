"""What the vendor's models take: https://elevenlabs.io/docs/models"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from shared.values import dataclass

_LONGEST_PART = 5_000


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A model's bounds. What is not known of a model is not sent to it, but for what a user asks
    for by name."""

    longest_text: int = _LONGEST_PART  # in one request
    takes_language: bool = True
    takes_context: bool = False  # what is said before and after
    credits_per_character: float = 1.0

    def cost(self, characters: int) -> int:
        """What the vendor charges for so many, where it does not say itself."""
        return math.ceil(characters * self.credits_per_character)

    @property
    def longest_part(self) -> int:
        """What it is asked to say at once. Less than it could: whoever leaves early pays for the
        parts that were asked for alone."""
        return min(self.longest_text, _LONGEST_PART)


_MODELS: Mapping[str, SpeechModel] = MappingProxyType(
    {
        "eleven_multilingual_v2": SpeechModel(10_000, takes_language=False, takes_context=True),
        "eleven_flash_v2_5": SpeechModel(40_000, takes_context=True, credits_per_character=0.5),
        "eleven_turbo_v2_5": SpeechModel(40_000, takes_context=True, credits_per_character=0.5),
        "eleven_flash_v2": SpeechModel(
            30_000, takes_language=False, takes_context=True, credits_per_character=0.5
        ),
        "eleven_turbo_v2": SpeechModel(
            30_000, takes_language=False, takes_context=True, credits_per_character=0.5
        ),
        "eleven_v4": SpeechModel(10_000),
        "eleven_v4_turbo": SpeechModel(10_000, credits_per_character=0.5),
        "eleven_v3": SpeechModel(5_000),
        "eleven_v3_conversational": SpeechModel(5_000),
    }
)


def speech_model(name: str) -> SpeechModel:
    """What is known of a model; one that is not known may take little."""
    return _MODELS.get(name, SpeechModel())
