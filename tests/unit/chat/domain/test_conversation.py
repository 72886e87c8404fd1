"""What a session is called, and which of its messages belong together."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.conversation import MessageId, branch_through, name_from


def an_id(number: int) -> MessageId:
    return MessageId(UUID(int=number))


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What is this?", "What is this?"),
        ("\n\n  What   is\tthis?  \nAnd that?", "What is this?"),
        ("", None),
        (" \n\t", None),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "…"),
        ("word " * 12 + "longword", ("word " * 12).strip() + "…"),
        ("word " * 11 + "longerword end", ("word " * 11).strip() + "…"),
        ("漢" * 80, "漢" * 60 + "…"),
    ],
)
def test_the_first_line_names_a_session(question: str, name: str | None) -> None:
    assert name_from(question) == name


@given(st.text())
def test_a_name_is_short_and_on_one_line(question: str) -> None:
    name = name_from(question)
    assert name is None or 0 < len(name) <= 61
    assert name is None or len(name.splitlines()) == 1


def test_a_branch_goes_on_with_the_newest_that_follows() -> None:
    #  1 - 2 - 3 - 5
    #      |     \ 6 - 7
    #      4 - 8
    before = {1: None, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 6, 8: 4}
    parents = {an_id(n): an_id(p) if p else None for n, p in before.items()}

    def through(number: int) -> list[int]:
        return sorted(id_.int for id_ in branch_through(parents, an_id(number)))

    assert through(3) == [1, 2, 3, 6, 7]
    assert through(5) == [1, 2, 3, 5]
    assert through(4) == [1, 2, 4, 8]
    assert through(1) == [1, 2, 4, 8]


@given(st.data())
def test_a_branch_is_one_line_from_the_beginning_to_an_end(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 25))
    before: dict[int, int | None] = {1: None}
    for number in range(2, count + 1):
        before[number] = data.draw(st.integers(1, number - 1))
    chosen = data.draw(st.integers(1, count))
    parents = {an_id(n): an_id(p) if p else None for n, p in before.items()}

    branch = sorted(id_.int for id_ in branch_through(parents, an_id(chosen)))

    assert chosen in branch
    assert branch[0] == 1
    assert all(before[after] == number for number, after in pairwise(branch))
    assert branch[-1] not in before.values()
