"""What a call to a vendor used, and who counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from shared.values import dataclass, replace

Source = Literal["provider", "counted", "estimated"]

_LETTERS_PER_TOKEN = 4
# What characters from U+2000 on begin with in UTF-8: of Chinese, Japanese and Korean, signs and
# emoji each is about a token.
_DENSE = bytes(range(0xE2, 0xF5))
# And those from U+0800 on, of Hindi and the other scripts of India, Thai, Khmer and so on: two of
# them are about a token, to the vendors' tokenizers of these years.
_HALF_DENSE = b"\xe0\xe1"
_A_PIECE = 100  # of an answer while it is said: at most so long, and counted at once
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 1_000  # a picture of about a megapixel, by the vendors' guides


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. `input_tokens` includes the cached ones, `output_tokens` the reasoning ones.

    `asides`: the parts of all this that were calls of their own to the same model, which the vendor
    made on the way. A price that depends on how long a prompt is holds for each call apart.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    source: Source = "provider"
    service_tier: str | None = None
    asides: Sequence[Usage] = ()

    @property
    def calls(self) -> Sequence[Usage]:
        """What each call used, the answer's own first."""
        if not self.asides:
            return (self,)
        return (_without(self, self.asides), *self.asides)

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


def _without(usage: Usage, parts: Sequence[Usage]) -> Usage:
    return replace(
        usage,
        input_tokens=usage.input_tokens - sum(part.input_tokens for part in parts),
        cache_read_tokens=usage.cache_read_tokens - sum(part.cache_read_tokens for part in parts),
        cache_write_tokens=usage.cache_write_tokens
        - sum(part.cache_write_tokens for part in parts),
        output_tokens=usage.output_tokens - sum(part.output_tokens for part in parts),
        output_reasoning_tokens=usage.output_reasoning_tokens
        - sum(part.output_reasoning_tokens for part in parts),
        asides=(),
    )


def letters_of(text: str) -> int:
    """How long a text is in letters, of which four are a token, as the vendors' guides say. A
    character that is about a token by itself counts as four, one that is about half of one as
    two."""
    if text.isascii() or (len(text) > _A_PIECE and _is_western(text)):
        return len(text)
    encoded = text.encode("utf-8", "surrogatepass")
    dense = len(encoded) - len(encoded.translate(None, _DENSE))
    half_dense = len(encoded) - len(encoded.translate(None, _HALF_DENSE))
    return len(text) + dense * (_LETTERS_PER_TOKEN - 1) + half_dense


def _is_western(text: str) -> bool:
    # Fifty times faster than to count; and where it isn't, that shows within the first characters.
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def estimated_tokens(letters: int) -> int:
    """About how many tokens a text of that length has."""
    return -(-letters // _LETTERS_PER_TOKEN)


def estimated_input(letters: int, messages: int, *, images: int = 0, tool_letters: int = 0) -> int:
    """About how many tokens a prompt has."""
    text = estimated_tokens(letters + tool_letters)
    return text + messages * _TOKENS_PER_MESSAGE + images * _TOKENS_PER_IMAGE


def estimated_usage(
    input_tokens: int,
    output_letters: int,
    told: Usage | None = None,
    *,
    thought_letters: int = 0,
    max_output_tokens: int | None,
) -> Usage:
    """The usage of an answer whose vendor did not tell it to the end. `told`: what it told before,
    of which the input is whole, if there is any, and the output may have grown since.
    `thought_letters`: those of the output that are thinking. `max_output_tokens`: as many as the
    vendor was allowed, beyond what it told; None where that is not known any more."""
    told = told or Usage()
    # What was thought may be told as soon as it was, or shown, or both; what was said comes to it.
    thought = max(told.output_reasoning_tokens, estimated_tokens(thought_letters))
    output_tokens = thought + estimated_tokens(output_letters - thought_letters)
    if max_output_tokens is not None:
        output_tokens = min(output_tokens, told.output_tokens + max_output_tokens)
    # A part of it is a guess, which an invoice must not take for the vendor's own count.
    return replace(
        told,
        input_tokens=told.input_tokens or input_tokens,
        output_tokens=max(told.output_tokens, output_tokens),
        source="estimated",
    )
