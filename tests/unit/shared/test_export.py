"""A document that is written while it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from shared.errors import DependencyUnavailable
from shared.http.export import json_answer, json_pieces, pages_of


async def pages(
    *given: Sequence[Any], then: Exception | None = None
) -> AsyncIterator[Sequence[Any]]:
    for page in given:
        yield page
    if then is not None:
        raise then


async def written(document: Any) -> Any:
    return json.loads(b"".join([piece async for piece in json_pieces(document)]))


async def test_pages_become_one_array_at_any_depth() -> None:
    document = {
        "name": "ada",
        "at": datetime(2026, 11, 24, tzinfo=UTC),
        "nothing": pages(),
        "empty": pages([], []),
        "sessions": pages(
            [{"id": 1, "messages": pages(["a", "b"], ["c"])}],
            [{"id": 2, "messages": pages([])}, {"id": 3, "parts": [1, {}]}],
        ),
    }
    assert await written(document) == {
        "name": "ada",
        "at": "2026-11-24T00:00:00Z",
        "nothing": [],
        "empty": [],
        "sessions": [
            {"id": 1, "messages": ["a", "b", "c"]},
            {"id": 2, "messages": []},
            {"id": 3, "parts": [1, {}]},
        ],
    }


async def test_items_are_shown_by_their_body_alone() -> None:
    class Body(BaseModel):
        length: int

        @classmethod
        def of(cls, text: str) -> Body:
            return cls(length=len(text))

    assert await written(pages_of(pages(["a secret"]), Body.of)) == [{"length": 8}]


async def test_a_small_answer_that_fails_never_begins() -> None:
    with pytest.raises(DependencyUnavailable):
        await json_answer({"keys": pages(["a"], then=DependencyUnavailable("database"))})


async def test_a_large_answer_that_fails_breaks_off() -> None:
    answer = await json_answer(
        {"keys": pages(["a" * 70_000], then=DependencyUnavailable("database"))}
    )
    with pytest.raises(DependencyUnavailable):
        async for _ in answer.body_iterator:
            pass
