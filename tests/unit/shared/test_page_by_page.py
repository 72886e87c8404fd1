"""A long list that changes while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import pytest

from shared.page_by_page import page_by_page


@dataclass(frozen=True)
class Row:
    id: int


@dataclass
class Table:
    ids: set[int]

    async def read(self, after: int | None) -> Sequence[Row]:
        return [Row(id_) for id_ in sorted(self.ids) if after is None or id_ > after][:3]


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (2, 1), (3, 2), (7, 3)])
async def test_each_row_comes_once_and_the_last_page_is_not_full(rows: int, pages: int) -> None:
    table = Table(set(range(rows)))
    read = [[row.id for row in page] async for page in page_by_page(table.read, 3)]
    assert len(read) == pages
    assert [id_ for page in read for id_ in page] == list(range(rows))


async def test_rows_that_come_and_go_meanwhile_make_no_other_lost_or_twice() -> None:
    table = Table({10, 20, 30, 40, 50, 60, 70})
    read: list[int] = []
    async for page in page_by_page(table.read, 3, attrgetter("id")):
        read += [row.id for row in page]
        # The place of the page is gone, and something is new before and after it.
        table.ids -= {read[-1], 50}
        table.ids |= {15, 35}
    assert read == [10, 20, 30, 35, 40, 60, 70]
