"""What is known of a user before a speech begins: one statement, whatever there is."""

from __future__ import annotations

from datetime import datetime

from services.voice.domain.kept_speech import Address, Recollection
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import VoiceId
from shared.db.database import Database
from shared.ids import UserId

_OF = """
select
    (select settings from voice_settings where user_id = $1 and voice_id = $2) as settings,
    (select audio from cached_utterance
     where user_id = $1 and address = $3 and kept_at >= $4) as audio,
    exists (select from cloned_voice
     where voice_id = $2 and (user_id <> $1 or state = 'removing')) as hidden
"""

_NOTHING_OF_THEIR_OWN = Recollection()


class SqlRecollections:
    """Own settings and kept audio, together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(
        self,
        user_id: UserId,
        voice_id: VoiceId,
        address: Address | None = None,
        *,
        since: datetime | None = None,
    ) -> Recollection:
        row = await self._database.fetchrow(_OF, user_id, voice_id, address, since)
        assert row is not None
        settings, audio, hidden = row["settings"], row["audio"], row["hidden"]
        if settings is None and audio is None and not hidden:
            return _NOTHING_OF_THEIR_OWN
        return Recollection(
            SettingsWish(**(settings or {})), None if audio is None else bytes(audio), hidden
        )
