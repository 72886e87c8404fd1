"""Rename a session, or change whom it is with."""

from __future__ import annotations

from services.chat.domain.conversation import ChatSession, SessionId
from services.chat.domain.errors import SessionNotFound, UnknownProvider
from services.chat.domain.model_choice import providers_of
from services.chat.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.model_catalogue import ModelCatalogue
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ChangeSession:
    """Rename a session, change its provider or its system prompt."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    catalogue: ModelCatalogue

    async def __call__(
        self,
        session_id: SessionId,
        *,
        by: UserId,
        name: str | None,
        provider: str | None,
        system_prompt: str | None,
    ) -> ChatSession:
        """Raises SessionNotFound or UnknownProvider."""
        if provider is not None and provider not in providers_of(self.catalogue):
            raise UnknownProvider(provider)
        async with self.unit_of_work() as work:
            # Who changes another part of it at this moment is not overwritten.
            await work.sessions.lock(session_id, by)
            session = await work.sessions.get(session_id, by)
            if session is None:
                raise SessionNotFound(session_id)
            changed = session.changed(
                self.clock.now(), name=name, provider=provider, system_prompt=system_prompt
            )
            await work.sessions.save(changed)
        return changed
