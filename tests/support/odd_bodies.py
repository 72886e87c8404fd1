"""Good bodies with something wrong in them, for the tests of whatever strangers send."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st


@st.composite
def odd_bodies(
    draw: st.DrawFn,
    whole: Mapping[str, Any],
    anything: st.SearchStrategy[Any],
    *,
    most_left_out: int,
    fewest_exchanged: int = 0,
) -> Any:
    """`whole` without some of its fields, and with up to three places of it exchanged for anything;
    now and then, anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(anything)
    body = copy.deepcopy(dict(whole))
    for name in draw(st.sets(st.sampled_from(sorted(whole)), max_size=most_left_out)):
        del body[name]
    for _ in range(draw(st.integers(fewest_exchanged, 3))):
        possible = _places_in(body)
        if not possible:
            break
        *path, last = draw(st.sampled_from(possible))
        target: Any = body
        for step in path:
            target = target[step]
        target[last] = draw(anything)
    return body


def _places_in(value: Any) -> list[tuple[Any, ...]]:
    """The way to each field and element, at whatever depth."""
    if not isinstance(value, dict | list):
        return []
    found: list[tuple[Any, ...]] = []
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        found += [(key,), *((key, *rest) for rest in _places_in(item))]
    return found
