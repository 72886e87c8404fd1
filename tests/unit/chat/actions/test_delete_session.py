"""A session that goes takes its running answer along, wherever that is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from services.chat.actions.delete_session import DeleteSession
from services.chat.domain.conversation import SessionId
from services.chat.domain.errors import SessionNotFound
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome, TurnId
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from tests.support.chat import Desk, MemoryTurns, ScriptedProvider, a_question, a_session, grace


@dataclass
class OneSession:
    """A session and the turn that runs in it."""

    owner: UserId
    turn_id: TurnId | None
    deleted: bool = False

    @asynccontextmanager
    async def work(self) -> AsyncIterator[Any]:
        yield self

    @property
    def sessions(self) -> OneSession:
        return self

    async def lock(self, session_id: SessionId, user_id: UserId) -> bool:
        return user_id == self.owner

    async def running_turn(self, session_id: SessionId) -> TurnId | None:
        return self.turn_id

    async def delete(self, session_id: SessionId, user_id: UserId) -> bool:
        self.deleted = True
        return True


@dataclass
class Channel:
    """What the other replicas are told."""

    away: bool = False
    stopped: list[TurnId] = field(default_factory=list)

    async def stop(self, turn_id: TurnId) -> None:
        if self.away:
            raise DependencyUnavailable("live channel")
        self.stopped.append(turn_id)


def delete(stored: OneSession, desk: Desk, channel: Channel) -> DeleteSession:
    return DeleteSession(stored.work, desk.running, channel)  # type: ignore[arg-type]


async def test_an_answer_of_this_replica_is_ended_here() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider(asyncio.Event()))
    turn = await desk.take_turn(a_question(session))
    assert isinstance(turn, RunningTurn)
    stored, channel = OneSession(session.user_id, turn.hold.id), Channel()

    await delete(stored, desk, channel)(session.id, by=session.user_id)

    await desk.running.drained(1)
    assert stored.deleted
    assert desk.outcome is Outcome.STOPPED
    assert channel.stopped == []


@pytest.mark.parametrize("away", [False, True])
async def test_an_answer_of_another_replica_is_ended_there(away: bool) -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider())
    turn_id = TurnId(UUID(int=3))
    stored, channel = OneSession(session.user_id, turn_id), Channel(away)

    await delete(stored, desk, channel)(session.id, by=session.user_id)

    assert stored.deleted
    assert channel.stopped == ([] if away else [turn_id])


async def test_nothing_of_anothers_session_is_touched() -> None:
    session = a_session()
    desk = Desk(MemoryTurns(session), ScriptedProvider())
    stored, channel = OneSession(session.user_id, TurnId(UUID(int=3))), Channel()
    with pytest.raises(SessionNotFound):
        await delete(stored, desk, channel)(session.id, by=grace)
    assert not stored.deleted
    assert channel.stopped == []
