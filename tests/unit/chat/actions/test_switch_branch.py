"""Another branch is shown whole, also where its last answer was written a moment ago."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from services.chat.actions.switch_branch import SwitchBranch
from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.errors import TurnRunning
from services.chat.domain.turn import TurnId
from shared.ids import UserId
from tests.support.chat import a_session, ada

QUESTION, ANSWER = MessageId(UUID(int=1)), MessageId(UUID(int=2))


@dataclass
class Ending:
    """A session whose turn ends as soon as anything of it was looked at."""

    messages: dict[MessageId, MessageId | None] = field(default_factory=lambda: {QUESTION: None})
    active: Collection[MessageId] = (QUESTION,)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[Any]:
        yield self

    @property
    def sessions(self) -> Ending:
        return self

    async def lock(self, _session_id: SessionId, _user_id: UserId) -> bool:
        return True

    async def parents(self, _session_id: SessionId) -> Mapping[MessageId, MessageId | None]:
        found = dict(self.messages)
        self._end()
        return found

    async def running_turn(self, _session_id: SessionId) -> TurnId | None:
        running = None if ANSWER in self.messages else TurnId(UUID(int=3))
        self._end()
        return running

    async def activate(self, _session_id: SessionId, branch: Collection[MessageId]) -> None:
        self.active = branch

    def _end(self) -> None:
        self.messages[ANSWER] = QUESTION


async def test_an_answer_that_was_written_meanwhile_is_not_left_out() -> None:
    session = Ending()
    switch = SwitchBranch(session.work)
    with pytest.raises(TurnRunning):
        await switch(a_session().id, QUESTION, by=ada)
    await switch(a_session().id, QUESTION, by=ada)
    assert set(session.active) == {QUESTION, ANSWER}
