"""The stream of a call that came through a door for SDKs.

SDKs raise their errors by status. So the answer's head waits a moment for the first event: what the
vendor refuses at once is an HTTP error, what goes wrong later an error inside the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from services.chat.api.follower import Follower, Headers, Receive, Send, cancelled, watch
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn_events import Broken, FellBack, Started, Thinks, TurnEvent
from shared.errors import ExpectedFailure, after_counting

GRACE_SECONDS = 1.0
_WORDLESS = (Started, FellBack, Thinks)

Write = Callable[[TurnEvent], bytes]


async def stream_call(
    turn: RunningTurn,
    receive: Receive,
    send: Send,
    *,
    headers: Callable[[], Headers],
    write: Write,
    ping_seconds: float = Follower.ping_seconds,
    patience_seconds: float = Follower.patience_seconds,
) -> None:
    """Write the turn's events as they come; a client that goes away ends it.

    Raises the turn's failure when nothing was said before it. `headers` is asked once it is known
    who answers, as far as that is known within the grace.
    """

    def told(after: int) -> tuple[bytes, int]:
        events = turn.events[after:]
        return b"".join(map(write, events)), after + len(events)

    watching = asyncio.create_task(watch(receive, turn.left))
    try:
        await _first_words(turn)
        failure = _failed_at_once(turn)
        if failure is not None:
            raise after_counting(failure, turn.limits)
        follower = Follower(turn, send, told)
        follower.ping_seconds, follower.patience_seconds = ping_seconds, patience_seconds
        await follower.write([*headers()])
    finally:
        turn.left()
        await cancelled(watching)


async def whole_call(turn: RunningTurn, receive: Receive) -> TurnEvent:
    """The turn's last event; a client that goes away ends it."""
    watching = asyncio.create_task(watch(receive, turn.left))
    try:
        return await turn.result()
    finally:
        turn.left()
        await cancelled(watching)


async def _first_words(turn: RunningTurn) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            seen = 0
            while all(isinstance(event, _WORDLESS) for event in turn.events[seen:]):
                seen = len(turn.events)
                if turn.is_over:
                    return
                await turn.more(seen)


def _failed_at_once(turn: RunningTurn) -> ExpectedFailure | None:
    *before, last = turn.events
    if isinstance(last, Broken) and all(isinstance(e, _WORDLESS) for e in before):
        return last.failure
    return None
