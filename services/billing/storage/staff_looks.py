"""Who of the billing team looked at whose data: rows are added and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.billing.domain.staff_look import StaffLook, StaffLookId
from shared.db.database import Connection, Row
from shared.ids import UserId

_ADD = """
insert into staff_look (id, looked_at, looked_by, holder_id, call, reason)
values ($1, $2, $3, $4, $5, $6)
"""
_LAST = UUID(int=(1 << 128) - 1)


def _page(where: str) -> str:
    return f"select * from staff_look where id < $1 {where} order by id desc limit $2"  # noqa: S608


# One each, so that each is read by its index.
_ALL = _page("")
_OF = _page("and holder_id = $3")
_BY = _page("and looked_by = $3")
_OF_BY = _page("and holder_id = $3 and looked_by = $4")


class SqlStaffLooks:
    """The trail on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add(self, look: StaffLook) -> None:
        values = (look.id, look.at, look.by, look.holder, look.call, look.reason)
        await self._connection.execute(_ADD, *values)

    async def page(
        self,
        *,
        holder: UserId | None,
        by: UserId | None,
        before: StaffLookId | None,
        most: int,
    ) -> Sequence[StaffLook]:
        if holder is None:
            statement = _ALL if by is None else _BY
        else:
            statement = _OF if by is None else _OF_BY
        whose = [one for one in (holder, by) if one is not None]
        rows = await self._connection.fetch(statement, before or _LAST, most, *whose)
        return [_look(row) for row in rows]


def _look(row: Row) -> StaffLook:
    return StaffLook(
        id=StaffLookId(row["id"]),
        at=row["looked_at"],
        by=UserId(row["looked_by"]),
        holder=UserId(row["holder_id"]),
        call=row["call"],
        reason=row["reason"],
    )
