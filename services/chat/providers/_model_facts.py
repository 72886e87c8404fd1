"""How a wire looks up what it knows of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, get_args

from services.chat.domain.content import Effort

T = TypeVar("T")

_EFFORTS: Sequence[str] = get_args(Effort)


def of_model(model: str, facts: Mapping[str, T], otherwise: T) -> T:
    """The facts with the longest prefix of the model's id."""
    prefixes = [prefix for prefix in facts if model.startswith(prefix)]
    return facts[max(prefixes, key=len)] if prefixes else otherwise


def nearest(effort: Effort, levels: Sequence[Effort]) -> Effort:
    """The highest of the levels (lowest first) that asks for no more effort; the lowest one if all
    do."""
    wished = _EFFORTS.index(effort)
    fitting = [level for level in levels if _EFFORTS.index(level) <= wished]
    return fitting[-1] if fitting else levels[0]
