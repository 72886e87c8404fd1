"""What OpenAI's models take, by the start of their ids: the list of models does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from services.chat.domain.content import Effort
from services.chat.providers._model_facts import nearest, of_model
from shared.values import dataclass


class Sampling(StrEnum):
    """When a model takes `temperature` and `top_p`."""

    ALWAYS = "always"
    WITHOUT_EFFORT = "without_effort"  # only while it does not reason
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`efforts`: the steps of reasoning it has, the least first; none for a model that does not
    reason. `chat_tools`: whether Chat Completions lets it call tools whatever the effort."""

    efforts: Sequence[Effort] = ()
    sampling: Sampling = Sampling.NEVER
    stop: bool = False
    chat_tools: bool = True

    def effort(self, wished: Effort | None) -> Effort | None:
        """The model's nearest step that is no more than wished, or else its least."""
        if wished is None or not self.efforts:
            return None
        return nearest(wished, self.efforts)

    def samples(self, effort: Effort | None) -> bool:
        """Whether it takes a temperature at this effort."""
        if self.sampling is Sampling.WITHOUT_EFFORT:
            return effort == "none"
        return self.sampling is Sampling.ALWAYS


_FROM_LOW: Sequence[Effort] = ("low", "medium", "high", "xhigh")
_FROM_NONE: Sequence[Effort] = ("none", *_FROM_LOW)

# https://platform.openai.com/docs/models
_MODELS: Mapping[str, ModelFacts] = MappingProxyType(
    {
        "gpt-6.2-": ModelFacts(_FROM_LOW),
        "gpt-6.1-sol": ModelFacts(_FROM_LOW, chat_tools=False),
        "gpt-6.1-": ModelFacts(_FROM_NONE, Sampling.WITHOUT_EFFORT),
        "gpt-6-astra": ModelFacts(_FROM_LOW, chat_tools=False),
        "gpt-6-": ModelFacts(_FROM_NONE, Sampling.WITHOUT_EFFORT, chat_tools=False),
        "gpt-5.": ModelFacts(("none", "low", "medium", "high")),
        "gpt-5": ModelFacts(("minimal", "low", "medium", "high")),
        "o1": ModelFacts(("low", "medium", "high")),
        "o3": ModelFacts(("low", "medium", "high")),
        "o4": ModelFacts(("low", "medium", "high")),
        "gpt-4": ModelFacts(sampling=Sampling.ALWAYS, stop=True),
        "gpt-3.5": ModelFacts(sampling=Sampling.ALWAYS, stop=True),
        "chatgpt-": ModelFacts(sampling=Sampling.ALWAYS, stop=True),
    }
)
# A model that came after this table: what the newest ones have in common.
_NEWER = ModelFacts(("low", "medium", "high"), chat_tools=False)


@lru_cache(maxsize=256)
def facts_of(model: str) -> ModelFacts:
    """What is known of the model."""
    return of_model(model, _MODELS, _NEWER)
