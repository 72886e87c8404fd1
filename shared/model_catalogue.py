"""Model classes and the vendors' ids that serve them today, the models of an operator's own server,
and how much each model can read.

The specification names models that their vendors have shut down (`gpt-3.5-turbo`, `gpt-4`,
`gemini-pro`, `claude-3-sonnet`, `claude-3-opus`). Tiers therefore grant *classes*; this table says
which id serves a class now. An operator overrides it without a release:
`MODEL_OVERRIDES='{"openai.small": "gpt-6-luna"}'`, `MODEL_CONTEXTS='{"my-llama": 8192}'`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

_TODAY: Mapping[str, str] = MappingProxyType(
    {
        "openai.small": "gpt-6-luna",
        "openai.medium": "gpt-6.1-terra",
        "openai.large": "gpt-6.1-sol",
        "openai.frontier": "gpt-6-astra",
        "gemini.standard": "gemini-3.8-flash",
        "gemini.frontier": "gemini-4-argon",
        "anthropic.sonnet": "claude-sonnet-5-5",
        "anthropic.opus": "claude-opus-5-5",
        "anthropic.frontier": "claude-fable-5-2",
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

# Tokens of prompt and answer together, by the start of a model's id. The vendors' lists don't tell
# them, but for Anthropic's.
_CONTEXTS: Mapping[str, int] = MappingProxyType(
    {
        "gpt-6": 1_050_000,
        "claude-haiku-4-5": 200_000,
        "claude-haiku-5": 1_000_000,
        "claude-sonnet-5": 1_000_000,
        "claude-opus-5": 1_000_000,
        "claude-fable-5": 1_000_000,
        "claude-mythos-5": 1_000_000,
        "gemini-3": 1_000_000,
        "gemini-4": 1_000_000,
    }
)
_CONTEXT_OF_OTHERS = 128_000

EVERY_TIER = "*"
"""Where the operator lists what their own server offers to all."""


class ModelCatalogue:
    """Answers which vendor id serves a model class, and how large a model's context is.
    `overridden`: the ids that the operator has for classes, in place of today's."""

    def __init__(
        self,
        overrides: Mapping[str, str] | None = None,
        contexts: Mapping[str, int] | None = None,
        own: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        unknown = set(overrides or ()) - set(_TODAY)
        if unknown:
            known = ", ".join(sorted(_TODAY))
            raise ValueError(f"MODEL_OVERRIDES: there are the model classes {known}")
        self.overridden: Mapping[str, str] = MappingProxyType(dict(overrides or {}))
        self._ids = {**_TODAY, **self.overridden}
        self._contexts = dict(contexts or {})
        self._own = {tier: tuple(models) for tier, models in (own or {}).items()}
        self.has_own_server = any(self._own.values())
        """Whether the operator offers models of a server of their own."""

    @classmethod
    def from_json(cls, text: str, contexts: str = "", own: str = "") -> ModelCatalogue:
        """From the operator's settings; empty text means that nothing is overridden, or that there
        is no server of their own.

        Raises ValueError for text that is no JSON object of known classes to ids, of ids to numbers
        of tokens, or of tiers to lists of ids.
        """
        ids, sizes, models = _object(text), _object(contexts), _object(own)
        if ids is None or not all(isinstance(id_, str) for id_ in ids.values()):
            raise ValueError("MODEL_OVERRIDES must be a JSON object of class to model id")
        if sizes is None or not all(type(size) is int and size > 0 for size in sizes.values()):
            raise ValueError("MODEL_CONTEXTS must be a JSON object of model id to tokens")
        if models is None or not all(map(_is_list_of_names, models.values())):
            raise ValueError("COMPATIBLE_MODELS must be a JSON object of tier, or *, to model ids")
        return cls(ids, sizes, models)

    def id_of(self, model_class: str) -> str:
        """The vendor's id that serves the class now. Raises KeyError for an unknown class."""
        return self._ids[model_class]

    def resolve(self, name: str) -> str:
        """A name as a user writes it (class, specification's alias or vendor id) as a vendor id."""
        model_class = _ALIASES.get(name, name)
        return self._ids.get(model_class, name)

    def context_of(self, model: str) -> int:
        """How many tokens of prompt and answer fit into the model; a guess for an unknown one."""
        if model in self._contexts:
            return self._contexts[model]
        for start, size in _CONTEXTS.items():
            if model.startswith(start):
                return size
        return _CONTEXT_OF_OTHERS

    @property
    def own_tiers(self) -> frozenset[str]:
        """The tiers that the operator lists models for."""
        return frozenset(self._own) - {EVERY_TIER}

    def own_models(self, tier: str) -> list[str]:
        """What that server offers to a tier; the first one answers when the user names none."""
        models = (*self._own.get(tier, ()), *self._own.get(EVERY_TIER, ()))
        return list(dict.fromkeys(models))


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _object(text: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
