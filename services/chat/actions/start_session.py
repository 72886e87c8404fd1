"""Begin a session."""

from __future__ import annotations

from services.chat.domain.conversation import DEFAULT_NAME, ChatSession, SessionId
from services.chat.domain.errors import UnknownProvider
from services.chat.domain.model_choice import providers_of
from services.chat.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.model_catalogue import ModelCatalogue
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class StartSession:
    """Begin a session with one of the chat providers."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    catalogue: ModelCatalogue

    async def __call__(
        self,
        user_id: UserId,
        *,
        name: str | None,
        provider: str,
        system_prompt: str | None,
    ) -> ChatSession:
        """Raises UnknownProvider."""
        if provider not in providers_of(self.catalogue):
            raise UnknownProvider(provider)
        now = self.clock.now()
        session = ChatSession(
            id=SessionId(uuid7()),
            user_id=user_id,
            name=name or DEFAULT_NAME,
            provider=provider,
            system_prompt=system_prompt or None,
            created_at=now,
            updated_at=now,
        )
        async with self.unit_of_work() as work:
            await work.sessions.add(session)
        return session
