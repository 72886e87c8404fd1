"""What voice holds of a user: to show all of it, and to forget it."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.domain.speech import SpeechId, SpeechRecord
from shared.db.database import Connection, Row
from shared.db.forgotten import erased
from shared.ids import UserId

_PAGE = """
select id, provider, voice_id, model, format, characters, state, outcome, charged_characters,
       request_id, created_at, settled_at
from speech
where user_id = $1 and ($2::uuid is null or (created_at, id) > (
    select created_at, id from speech where id = $2
))
order by created_at, id limit $3
"""

# A running one is an open hold: it is paid for, and billing has yet to hear of it.
_ERASE = """
delete from speech where id in (
    select id from speech where user_id = $1 and state = 'settled' limit $2
)
"""
_IS_RUNNING = "select exists (select from speech where user_id = $1 and state = 'running')"


class SqlTraces:
    """A user's traces on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def page(
        self, user_id: UserId, *, after: SpeechId | None, most: int
    ) -> Sequence[SpeechRecord]:
        rows = await self._connection.fetch(_PAGE, user_id, after, most)
        return [_from_row(row) for row in rows]

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return erased(await self._connection.execute(_ERASE, user_id, most))

    async def is_running(self, user_id: UserId) -> bool:
        return bool(await self._connection.fetchval(_IS_RUNNING, user_id))


def _from_row(row: Row) -> SpeechRecord:
    return SpeechRecord(
        id=SpeechId(row["id"]),
        provider=row["provider"],
        voice_id=row["voice_id"],
        model=row["model"],
        format=row["format"],
        characters=row["characters"],
        outcome=row["outcome"],
        charged_characters=row["charged_characters"],
        request_id=row["request_id"],
        created_at=row["created_at"],
        settled_at=row["settled_at"],
    )
