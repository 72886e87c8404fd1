"""Tell every device in a session's room something, on whichever replica it is."""

from __future__ import annotations

from services.chat.domain.conversation import SessionId
from services.chat.domain.ports import LiveChannel
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class EmitToRoom:
    """Heard now or never: nothing of it is kept. The caller has to be in the room."""

    channel: LiveChannel

    async def __call__(self, session_id: SessionId, message: bytes) -> None:
        """Raises Unavailable while the replicas can't hear each other."""
        await self.channel.emit(session_id, message)
