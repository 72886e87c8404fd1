"""What is known of Gemini's models: https://ai.google.dev/gemini-api/docs/models

Their list tells that a model thinks, but not at which levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.chat.domain.content import Effort
from services.chat.providers._model_facts import of_model
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`efforts`: the levels of thinking, the lowest first; none where the model has no levels.
    `takes_sampling`: not where a temperature is ignored, or soon will be refused."""

    efforts: Sequence[Effort] = ("low", "medium", "high")
    takes_sampling: bool = False


_FROM_MINIMAL: tuple[Effort, ...] = ("minimal", "low", "medium", "high")
_BY_PREFIX: Mapping[str, ModelFacts] = {
    "gemini-2.5-": ModelFacts(efforts=(), takes_sampling=True),
    "gemini-3.1-flash-lite": ModelFacts(efforts=_FROM_MINIMAL, takes_sampling=True),
    "gemini-3.5-flash-lite": ModelFacts(efforts=_FROM_MINIMAL),
    "gemini-3.6-flash": ModelFacts(efforts=_FROM_MINIMAL),
    "gemini-4-": ModelFacts(efforts=(*_FROM_MINIMAL, "xhigh")),
}


def facts_of(model: str) -> ModelFacts:
    """Of a model that is not known, what all of today's have in common."""
    return of_model(model, _BY_PREFIX, ModelFacts())
