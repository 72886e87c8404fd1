"""Model classes and the vendors' ids that serve them today.

The specification names models that their vendors have shut down (`gpt-3.5-turbo`, `gpt-4`,
`gemini-pro`, `claude-3-sonnet`, `claude-3-opus`). Tiers therefore grant *classes*; this table says
which id serves a class now. An operator overrides it without a release:
`MODEL_OVERRIDES='{"openai.small": "gpt-6-luna"}'`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

_TODAY: Mapping[str, str] = MappingProxyType(
    {
        "openai.small": "gpt-6-luna",
        "openai.large": "gpt-6.1-sol",
        "gemini.standard": "gemini-3.8-flash",
        "anthropic.sonnet": "claude-sonnet-5-5",
        "anthropic.opus": "claude-opus-5-5",
        "elevenlabs.standard": "eleven_flash_v2_5",
        "elevenlabs.high": "eleven_multilingual_v2",
    }
)

# The specification's ids, as users may still send them.
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "gpt-3.5-turbo": "openai.small",
        "gpt-4": "openai.large",
        "gemini-pro": "gemini.standard",
        "claude-3-sonnet": "anthropic.sonnet",
        "claude-3-sonnet-20240229": "anthropic.sonnet",
        "claude-3-opus": "anthropic.opus",
        "claude-3-opus-20240229": "anthropic.opus",
    }
)


class ModelCatalogue:
    """Answers which vendor id serves a model class."""

    def __init__(self, overrides: Mapping[str, str] | None = None) -> None:
        unknown = set(overrides or ()) - set(_TODAY)
        if unknown:
            raise ValueError(f"no such model class: {', '.join(sorted(unknown))}")
        self._ids = {**_TODAY, **(overrides or {})}

    @classmethod
    def from_json(cls, text: str) -> ModelCatalogue:
        """From the operator's setting; empty text means no override.

        Raises ValueError for text that is no JSON object of known classes to ids.
        """
        parsed = json.loads(text) if text.strip() else {}
        if not isinstance(parsed, dict) or not all(isinstance(v, str) for v in parsed.values()):
            raise ValueError("MODEL_OVERRIDES must be a JSON object of class to model id")
        return cls(parsed)

    def id_of(self, model_class: str) -> str:
        """The vendor's id that serves the class now. Raises KeyError for an unknown class."""
        return self._ids[model_class]

    def resolve(self, name: str) -> str:
        """A name as a user writes it (class, specification's alias or vendor id) as a vendor id."""
        model_class = _ALIASES.get(name, name)
        return self._ids.get(model_class, name)
