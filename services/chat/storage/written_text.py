"""The text of an answer, from what was written down of its events."""

from __future__ import annotations

from typing import Any

import orjson

from services.chat.domain.live import LiveEvent
from services.chat.domain.ports import TurnLog
from services.chat.domain.turn import TurnId


class WrittenInLog:
    """What a lost replica left of its answers in the log for those who follow."""

    def __init__(self, log: TurnLog) -> None:
        self._log = log

    async def text_of(self, turn_id: TurnId) -> str:
        """The text up to the first gap; nothing when nothing is left, or it can't be read."""
        return "".join(map(_text, await self._log.whole(turn_id)))


def _text(event: LiveEvent) -> str:
    name, data = event
    if name != "delta":
        return ""
    try:
        said: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ""
    text = said.get("text") if isinstance(said, dict) else None
    return text if isinstance(text, str) else ""
