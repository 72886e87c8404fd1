"""What users have chosen for all their turns."""

from __future__ import annotations

from services.chat.domain.preference import Preference
from shared.db.database import Connection
from shared.ids import UserId

_OF_USER = """
select fallback, monthly_cap_microusd, speak_voice_id from preference where user_id = $1
"""
_SAVE = """
insert into preference (user_id, fallback, monthly_cap_microusd, speak_voice_id, updated_at)
values ($1, $2, $3, $4, now())
on conflict (user_id) do update set
    fallback = excluded.fallback, monthly_cap_microusd = excluded.monthly_cap_microusd,
    speak_voice_id = excluded.speak_voice_id, updated_at = excluded.updated_at
"""


class SqlPreferences:
    """Preferences on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_user(self, user_id: UserId) -> Preference:
        row = await self._connection.fetchrow(_OF_USER, user_id)
        if row is None:
            return Preference()
        return Preference(
            tuple(row["fallback"]), row["monthly_cap_microusd"], row["speak_voice_id"]
        )

    async def save(self, user_id: UserId, preference: Preference) -> None:
        await self._connection.execute(
            _SAVE,
            user_id,
            list(preference.fallback),
            preference.monthly_cap_microusd,
            preference.speak_voice_id,
        )
