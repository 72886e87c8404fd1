"""How users want voices to speak, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.voice.domain.own_settings import OwnSettings, SettingsChange
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import VoiceId
from shared.db.database import Connection
from shared.db.forgotten import erased
from shared.ids import UserId

_OF = "select settings from voice_settings where user_id = $1 and voice_id = $2"

# One statement, so that two changes at once lose nothing of each other.
_CHANGE = """
insert into voice_settings (user_id, voice_id, settings, updated_at)
values ($1, $2, jsonb_strip_nulls($3::jsonb), $4)
on conflict (user_id, voice_id) do update set
    settings = jsonb_strip_nulls(voice_settings.settings || $3::jsonb),
    updated_at = excluded.updated_at
"""
_DROP_EMPTY = """
delete from voice_settings where user_id = $1 and voice_id = $2 and settings = '{}'::jsonb
"""
_DROP = "delete from voice_settings where user_id = $1 and voice_id = $2"
_PAGE = """
select voice_id, settings, updated_at from voice_settings
where user_id = $1 and ($2::text is null or voice_id > $2) order by voice_id limit $3
"""
_ERASE = """
delete from voice_settings where (user_id, voice_id) in (
    select user_id, voice_id from voice_settings where user_id = $1 limit $2
)
"""


class SqlOwnSettings:
    """Users' own settings on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, user_id: UserId, voice_id: VoiceId) -> SettingsWish:
        settings = await self._connection.fetchval(_OF, user_id, voice_id)
        return SettingsWish(**(settings or {}))

    async def change(
        self, user_id: UserId, voice_id: VoiceId, change: SettingsChange, at: datetime
    ) -> None:
        await self._connection.execute(_CHANGE, user_id, voice_id, dict(change), at)
        await self._connection.execute(_DROP_EMPTY, user_id, voice_id)

    async def drop(self, user_id: UserId, voice_id: VoiceId) -> None:
        await self._connection.execute(_DROP, user_id, voice_id)

    async def page(
        self, user_id: UserId, *, after: VoiceId | None, most: int
    ) -> Sequence[OwnSettings]:
        rows = await self._connection.fetch(_PAGE, user_id, after, most)
        return [
            OwnSettings(
                VoiceId(row["voice_id"]), SettingsWish(**row["settings"]), row["updated_at"]
            )
            for row in rows
        ]

    async def erase(self, user_id: UserId, *, most: int) -> int:
        return erased(await self._connection.execute(_ERASE, user_id, most))
