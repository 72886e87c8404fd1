"""Builders for calls without a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from services.chat.actions.answer_call import AnswerCall, Call
from services.chat.domain.content import Role, Thought, ToolCall, Utterance
from services.chat.domain.conversation import Message, MessageId, MessageStatus, SessionId
from services.chat.domain.turn import Hold, Surface, TurnId
from services.chat.domain.usage import Usage
from shared.identity import OnBehalfOf
from shared.ids import EventId, UserId
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS
from tests.support.chat import NOON, Desk, ada


def a_hold(**parts: object) -> Hold:
    """The hold of a call without a session."""
    hold = Hold(
        id=TurnId(uuid4()),
        user_id=ada,
        session_id=None,
        question_id=None,
        answer_id=MessageId(uuid4()),
        usage_event_id=EventId(uuid4()),
        request_id="request-1",
        tier="pro",
        provider="openai",
        model="gpt-6-luna",
        input_estimate=1,
        created_at=NOON,
        lease_expires_at=NOON,
        surface=Surface.V1,
    )
    return replace(hold, **parts)  # type: ignore[arg-type]


def an_answer_message(hold: Hold, text: str) -> Message:
    """The settled answer of a hold."""
    return Message(
        id=hold.answer_id,
        session_id=SessionId(hold.id),
        role=Role.ASSISTANT,
        content=text,
        status=MessageStatus.DONE,
        created_at=NOON,
        provider=hold.provider,
        model=hold.model,
        usage=Usage(input_tokens=1, output_tokens=2).to_record(),
        cost_microusd=7,
    )


def a_call(**parts: object) -> Call:
    """A call without a session by an enterprise user."""
    call = Call(
        by=OnBehalfOf(ada, "request-1", "token", UUID(int=9)),
        tier=TIERS["enterprise"],
        model="default",
        utterances=(Utterance(Role.USER, "What is this?"),),
    )
    return replace(call, **parts)  # type: ignore[arg-type]


@dataclass
class MemoryThoughts:
    """Keeps whatever it is given, by user."""

    kept: dict[UserId, list[tuple[Sequence[ToolCall], Sequence[Thought]]]] = field(
        default_factory=dict
    )

    async def keep(
        self, user_id: UserId, calls: Sequence[ToolCall], thoughts: Sequence[Thought]
    ) -> None:
        self.kept.setdefault(user_id, []).append((calls, thoughts))

    async def restored(
        self, user_id: UserId, utterances: Sequence[Utterance]
    ) -> Sequence[Utterance]:
        known = {call.id: call for calls, _ in self.kept.get(user_id, ()) for call in calls}
        return [
            replace(said, tool_calls=[known.get(call.id, call) for call in said.tool_calls])
            for said in utterances
        ]


def answering(desk: Desk, thoughts: MemoryThoughts | None = None) -> AnswerCall:
    """The verb, on a desk's in-memory ports."""
    return AnswerCall(
        desk.turns,
        desk.open,
        desk.run,
        desk.providers,
        ModelCatalogue(),
        thoughts or MemoryThoughts(),
    )
