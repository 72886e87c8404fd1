"""The answer of a turn without a session, as it is kept for a repeated request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from services.chat.domain.content import Role, Thought, ToolCall
from services.chat.domain.conversation import Message, MessageStatus, SessionId
from services.chat.domain.turn import Hold, Outcome, Settlement
from services.chat.domain.turn_events import Answered, CallsTool, Delta, TurnEvent, UsageTold


def to_stored(settlement: Settlement) -> bytes:
    """What `from_stored` needs to say it again."""
    return json.dumps(
        {
            "text": settlement.text,
            "tool_calls": [
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in settlement.tool_calls
            ],
            "thoughts": [
                {"provider": thought.provider, "block": thought.block}
                for thought in settlement.thoughts
            ],
            "finish_reason": settlement.finish_reason,
            "usage": settlement.usage.to_record(),
            "provider": settlement.provider,
            "model": settlement.model,
            "cost_microusd": settlement.cost_microusd,
            "processing_time_ms": settlement.processing_time_ms,
            "fallback_from": settlement.fallback_from,
        },
        separators=(",", ":"),
    ).encode()


def from_stored(hold: Hold, stored: bytes) -> Sequence[TurnEvent]:
    """The events of the answer, as a follower would have seen them."""
    kept = json.loads(stored)
    calls = tuple(ToolCall(**call) for call in kept["tool_calls"])
    message = Message(
        id=hold.answer_id,
        session_id=SessionId(hold.id),
        role=Role.ASSISTANT,
        content=kept["text"],
        status=MessageStatus.DONE,
        created_at=hold.created_at,
        provider=kept["provider"],
        model=kept["model"],
        usage=kept["usage"],
        cost_microusd=kept["cost_microusd"],
        processing_time_ms=kept["processing_time_ms"],
        finish_reason=kept["finish_reason"],
        tool_calls=calls,
        # A release before this one kept none.
        thoughts=tuple(Thought(**thought) for thought in kept.get("thoughts", ())),
    )
    said: list[TurnEvent] = [Delta(kept["text"])] if kept["text"] else []
    said += [CallsTool(i, call.id, call.name, call.arguments) for i, call in enumerate(calls)]
    reason = kept["finish_reason"] or "stop"
    return [
        *said,
        UsageTold(message),
        Answered(message, reason, kept["fallback_from"], calls),
    ]


def with_stored_answer(hold: Hold, settlement: Settlement) -> Settlement:
    """The settlement, which keeps its answer if somebody may ask for it again. A broken one is not
    kept: a client that repeats its request wants the whole answer."""
    is_whole = settlement.outcome is Outcome.DONE
    if hold.idempotency_key is None or hold.session_id is not None or not is_whole:
        return settlement
    return replace(settlement, stored_answer=to_stored(settlement))
