"""What users have chosen for all their turns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from services.chat.domain.preference import Preference
from shared.db.database import Connection
from shared.ids import UserId

_OF_USER = """
select fallback, monthly_cap_microusd, speak_voice_id from preference where user_id = $1
"""
_SAVE = """
insert into preference as kept (
    user_id, fallback, monthly_cap_microusd, speak_voice_id, updated_at
)
values ($1, $2, $3, $4, now())
on conflict (user_id) do update set
    fallback = case when $5 then excluded.fallback else kept.fallback end,
    monthly_cap_microusd =
        case when $6 then excluded.monthly_cap_microusd else kept.monthly_cap_microusd end,
    speak_voice_id = case when $7 then excluded.speak_voice_id else kept.speak_voice_id end,
    updated_at = excluded.updated_at
returning fallback, monthly_cap_microusd, speak_voice_id
"""


class SqlPreferences:
    """Preferences on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_user(self, user_id: UserId) -> Preference:
        row = await self._connection.fetchrow(_OF_USER, user_id)
        return Preference() if row is None else _preference(row)

    async def save(
        self, user_id: UserId, preference: Preference, only: Collection[str] | None = None
    ) -> Preference:
        chosen = [only is None or field.name in only for field in fields(Preference)]
        row = await self._connection.fetchrow(
            _SAVE,
            user_id,
            list(preference.fallback),
            preference.monthly_cap_microusd,
            preference.speak_voice_id,
            *chosen,
        )
        return _preference(row)


def _preference(row: Any) -> Preference:
    return Preference(tuple(row["fallback"]), row["monthly_cap_microusd"], row["speak_voice_id"])
