"""What a call to a vendor used, and who counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Source = Literal["provider", "counted", "estimated"]

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 1_000  # a picture of about a megapixel, by the vendors' guides


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `input_tokens` includes the cached ones, `output_tokens` the reasoning ones."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    source: Source = "provider"
    service_tier: str | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def to_record(self) -> dict[str, Any]:
        """As it is kept with a message and shown to the user."""
        # By hand: `asdict` copies deeply, and this is done for every turn.
        return {
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
            "output_reasoning_tokens": self.output_reasoning_tokens,
            "source": self.source,
            "service_tier": self.service_tier,
            "total_tokens": self.total_tokens,
        }


def estimated_tokens(characters: int) -> int:
    """About how many tokens a text has: four characters each, as the vendors' guides say."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def estimated_input(
    characters: int, messages: int, *, images: int = 0, tool_characters: int = 0
) -> int:
    """About how many tokens a prompt has."""
    text = estimated_tokens(characters + tool_characters)
    return text + messages * _TOKENS_PER_MESSAGE + images * _TOKENS_PER_IMAGE


def estimated_usage(input_tokens: int, output_characters: int) -> Usage:
    """The usage of an answer whose vendor never told us."""
    return Usage(
        input_tokens=input_tokens,
        output_tokens=estimated_tokens(output_characters),
        source="estimated",
    )
