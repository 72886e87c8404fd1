"""What is read from a client's body can be written again."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from services.chat.api.fields import Fields, require_writable
from shared.vendors.dropins import BadParameter


def nested(levels: int, *, objects: bool) -> Any:
    value: Any = {} if objects else []
    for _ in range(levels - 1):
        value = {"a": value, "b": 1} if objects else [1, value]
    return value


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 199, 200, 201, 254, 255, 900])
def test_two_hundred_levels_can_be_repeated(levels: int, objects: bool) -> None:
    fields = Fields({"tools": nested(levels, objects=objects), "input": "x", "text": None})
    if levels <= 200:
        require_writable(fields, "input", "text", "tools", "absent")
    else:
        with pytest.raises(BadParameter) as refused:
            require_writable(fields, "input", "text", "tools", "absent")
        assert refused.value.facts["param"] == "tools"


def test_to_see_to_it_takes_little_of_what_reading_took() -> None:
    """Everybody waits meanwhile."""
    body = b'{"input":[' + b",".join([b"{}"] * 200_000) + b"]}"

    def fastest(work: Any) -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        return min(taken)

    fields = Fields(orjson.loads(body))
    assert fastest(lambda: require_writable(fields, "input")) < fastest(lambda: orjson.loads(body))
