"""Everything a user has said here and was answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.chat.domain.conversation import (
    Attachment,
    ChatSession,
    Message,
    MessageId,
    SessionId,
)
from services.chat.domain.ports import NewUnitOfWork
from services.chat.domain.preference import Preference
from services.chat.domain.turn import TurnId, TurnRecord
from shared.ids import UserId
from shared.page_by_page import page_by_page
from shared.values import dataclass

_SESSIONS = 100
# Answers may be long, and a page is held in memory.
_MESSAGES = 50
_TURNS = 50


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """An image with its bytes, unless those are at its URL."""

    attachment: Attachment
    data: bytes | None


@dataclass(frozen=True, slots=True)
class ExportUser:
    """What a user gets who asks for all their data.

    Page by page, the oldest first: no transaction waits for a slow reader, and a session that is
    used meanwhile is neither skipped nor repeated.
    """

    unit_of_work: NewUnitOfWork

    def sessions(self, user_id: UserId) -> AsyncIterator[Sequence[ChatSession]]:
        async def read(after: SessionId | None) -> Sequence[ChatSession]:
            async with self.unit_of_work() as work:
                return await work.sessions.of_user(user_id, after=after, most=_SESSIONS)

        return page_by_page(read, _SESSIONS)

    def messages(
        self, session_id: SessionId, *, every_branch: bool = True
    ) -> AsyncIterator[Sequence[Message]]:
        async def read(after: MessageId | None) -> Sequence[Message]:
            async with self.unit_of_work() as work:
                return await work.sessions.messages(
                    session_id, after=after, most=_MESSAGES, every_branch=every_branch
                )

        return page_by_page(read, _MESSAGES)

    def turns(self, user_id: UserId) -> AsyncIterator[Sequence[TurnRecord]]:
        """What was asked, in sessions and without."""

        async def read(after: TurnId | None) -> Sequence[TurnRecord]:
            async with self.unit_of_work() as work:
                return await work.sessions.turns_of(user_id, after=after, most=_TURNS)

        return page_by_page(read, _TURNS)

    async def images(self, message: Message) -> AsyncIterator[Sequence[ExportedImage]]:
        """What was sent along with a message, one at a time: it may be large."""
        for attachment in message.attachments:
            data = None
            if attachment.url is None:
                async with self.unit_of_work() as work:
                    data = await work.sessions.image(attachment.id)
            yield [ExportedImage(attachment, data)]

    async def preference(self, user_id: UserId) -> Preference:
        """What the user has chosen for all their turns."""
        async with self.unit_of_work() as work:
            return await work.preferences.of_user(user_id)
