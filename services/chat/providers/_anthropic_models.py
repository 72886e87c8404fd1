"""What is known of Anthropic's models: https://docs.anthropic.com/en/docs/about-claude/models

Their list tells much, but not whether a model still takes a temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.chat.domain.content import Effort
from services.chat.providers._model_facts import of_model
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`efforts`: the lowest first; none where the model takes no such wish. `always_thinks`: its
    thinking can't be turned off."""

    efforts: Sequence[Effort] = ("low", "medium", "high", "xhigh", "max")
    always_thinks: bool = False
    takes_sampling: bool = False


_THINKER = ModelFacts(always_thinks=True)
_OLD = ModelFacts(efforts=(), takes_sampling=True)
_BETWEEN = ModelFacts(efforts=("low", "medium", "high", "max"), takes_sampling=True)
_BY_PREFIX: Mapping[str, ModelFacts] = {
    "claude-opus-5": _THINKER,
    "claude-fable-": _THINKER,
    "claude-mythos-": _THINKER,
    "claude-sonnet-4-6": _BETWEEN,
    "claude-opus-4-6": _BETWEEN,
    "claude-haiku-4-5": _OLD,
    "claude-sonnet-4-5": _OLD,
    "claude-opus-4-5": _OLD,
}


def facts_of(model: str) -> ModelFacts:
    """Of a model that is not known, what its newest siblings have in common."""
    return of_model(model, _BY_PREFIX, ModelFacts())
