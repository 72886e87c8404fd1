"""What a lost replica wrote down of an answer is read back as its text."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from services.chat.api.live_events import live_event
from services.chat.domain.live import LiveEvent
from services.chat.domain.turn import TurnId
from services.chat.domain.turn_events import CallsTool, Delta, Thinks, TurnEvent
from services.chat.storage.written_text import WrittenInLog


class Log:
    def __init__(self, *events: LiveEvent) -> None:
        self.events = events

    async def whole(self, turn_id: TurnId) -> Sequence[LiveEvent]:
        return self.events


async def text_of(*events: LiveEvent) -> str:
    return await WrittenInLog(Log(*events)).text_of(TurnId(uuid4()))  # type: ignore[arg-type]


async def test_only_pieces_of_the_answer_are_text() -> None:
    said: list[TurnEvent] = [
        Delta("Zwölf "),
        Thinks("Hm"),
        CallsTool(0, "id", "tool", "{}"),
        Delta("Boxkämpfer"),
    ]
    assert await text_of(*map(live_event, said)) == "Zwölf Boxkämpfer"
    assert await text_of() == ""


async def test_what_can_not_be_read_is_left_out() -> None:
    odd = [("delta", b"{"), ("delta", b"[]"), ("delta", b'{"text": 7}'), live_event(Delta("x"))]
    assert await text_of(*odd) == "x"
