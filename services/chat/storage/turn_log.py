"""What running turns say, kept for a short time in Valkey, so that any replica can follow.

Each turn has a stream. Its entries are batches: everything that was said since the last one, under
the number of their last event. A second attempt at a batch is refused by its number, so nothing is
written twice. Nobody waits for Valkey: the writer holds positions, and writes what has come
meanwhile when it is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from services.chat.domain.conversation import SessionId
from services.chat.domain.live import HeardTurn, LiveEvent, LiveTurn
from services.chat.domain.turn import TurnId
from services.chat.storage.live_channel import began_message
from shared.limits.line import Line, packed
from shared.values import dataclass

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 0.05
# A Valkey that failed is left alone for a second.
_AWAY_SECONDS = 1.0
# An answer that has ended is tried to be written for so long.
_PATIENCE_SECONDS = 10.0
_LONGEST_TURN_SECONDS = 3600
_KEPT_SECONDS = 900
LARGEST_LOG_BYTES = 8 << 20
_BLOCK_MILLISECONDS = 1000
# So much later an answer still comes. After that Valkey's host is gone: that closes nothing, and
# the kernel would go on trying for a quarter of an hour.
_ANSWER_SECONDS = 10.0
# So many turns are written in one go; the script holds Valkey up for less than a millisecond.
_MOST_AT_ONCE = 100
_TIMEOUT_SECONDS = 0.2
_SCRIPT = files(__package__).joinpath("turn_log.lua").read_bytes()
_BY_DIGEST = ("EVALSHA", hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest())
_WHOLE = ("EVAL", _SCRIPT)
_FIELD = b"e"
_FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)


@dataclass(slots=True, eq=False)
class _Kept:
    """A turn that is being written down."""

    turn: LiveTurn
    key: str
    written: int = 0  # events
    size: int = 0  # bytes
    over_at: float | None = None


_Due: TypeAlias = "tuple[_Kept, bool, Sequence[LiveEvent]]"


class ValkeyTurnLog:
    """One writer and one reader for all turns of a replica, whoever follows them."""

    def __init__(self, cache: Redis, listener: Redis) -> None:
        """`cache` has hard timeouts; `listener` may wait for as long as nothing happens."""
        self._cache = cache
        self._listener = listener
        self._kept: dict[TurnId, _Kept] = {}
        self._has_kept = asyncio.Event()
        self._heard: WeakValueDictionary[TurnId, HeardTurn] = WeakValueDictionary()
        self._has_heard = asyncio.Event()
        self._writing = asyncio.Lock()
        self._is_away = self._is_refused = False
        self._line = Line(cache.connection_pool, timeout=_TIMEOUT_SECONDS)
        # The reader waits for this stream, too: an entry tells it that there is more to read.
        self._wake_key = f"turn.wake:{uuid4()}"
        self._woken = "0-0"

    def keep(self, turn: LiveTurn) -> None:
        self._kept[turn.turn_id] = _Kept(turn, _key(turn.turn_id))
        self._has_kept.set()

    def unwritten(self, turn_id: TurnId) -> LiveTurn | None:
        kept = self._kept.get(turn_id)
        return kept.turn if kept is not None else None

    async def follow(self, turn_id: TurnId, session_id: SessionId | None) -> HeardTurn:
        heard = self._heard.get(turn_id)
        if heard is None:
            heard = self._heard[turn_id] = HeardTurn(turn_id, session_id)
            self._has_heard.set()
            try:
                pipe = self._cache.pipeline(transaction=False)
                pipe.xadd(self._wake_key, {_FIELD: b""}, maxlen=1, approximate=False)
                pipe.expire(self._wake_key, _KEPT_SECONDS)
                pipe.xrange(_key(turn_id))
                _hear(heard, (await pipe.execute())[2] or ())
            except _FAILURES as error:
                self._went_away(error)
        return heard

    def silent(self, seconds: float) -> Sequence[HeardTurn]:
        since = time.monotonic() - seconds
        return [t for t in list(self._heard.values()) if not t.is_over and t.heard_at < since]

    async def whole(self, turn_id: TurnId) -> Sequence[LiveEvent]:
        try:
            entries = await self._cache.xrange(_key(turn_id))
        except _FAILURES as error:
            self._went_away(error)
            return ()
        heard = HeardTurn(turn_id, None)
        _hear(heard, entries or ())
        return heard.said(0)

    async def write(self) -> None:
        """Write down what turns say, for ever."""
        while True:
            await self._has_kept.wait()
            await asyncio.sleep(_AWAY_SECONDS if self._is_away else _FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception:
                # A turn that can't be written down must not end the log of all others.
                log.exception("turn_log_failed")
                self._is_away = True
                self._give_up(time.monotonic())

    async def flush(self) -> None:
        """Write what was said since the last time. One after the other: what two wrote at once
        would count twice."""
        async with self._writing:
            await self._flush()

    async def _flush(self) -> None:
        now, due = time.monotonic(), self._due()
        for at in range(0, len(due), _MOST_AT_ONCE):
            some = due[at : at + _MOST_AT_ONCE]
            try:
                await self._write_batches(some, now)
            except _FAILURES as error:
                self._went_away(error)
                self._give_up(now)
                return
            self._written(some)
        self._is_away = False

    def _due(self) -> list[_Due]:
        due: list[_Due] = []
        for kept in list(self._kept.values()):
            try:
                # Whether it is over is asked first: what it says then is all that it will ever say.
                is_over, events = kept.turn.is_over, kept.turn.said(kept.written)
            except Exception:
                # One that can't be written down must not keep the others from it.
                log.exception("turn_not_written_down", turn_id=str(kept.turn.turn_id))
                self._forget(kept)
                continue
            if is_over or events:
                due.append((kept, is_over, events))
        return due

    async def _write_batches(self, due: Sequence[_Due], now: float) -> None:
        keys: list[str] = []
        values: list[str | int | bytes] = []
        for kept, is_over, events in due:
            if is_over and kept.over_at is None:
                kept.over_at = now
            keys.append(kept.key)
            values += _batch(kept, is_over, events)
        # Packed by hand: what redis-py makes of a list of arguments costs more than all the rest.
        try:
            answer = await self._line.ask(packed(*_BY_DIGEST, len(keys), *keys, *values))
        except NoScriptError:
            answer = await self._line.ask(packed(*_WHOLE, len(keys), *keys, *values))
        refused, reason = answer
        if refused:
            self._was_refused(refused, reason)
        elif self._is_refused and any(events for _, _, events in due):
            self._is_refused = False

    def _written(self, due: Sequence[_Due]) -> None:
        for kept, is_over, events in due:
            kept.written += len(events)
            kept.size += sum([len(data) for _, data in events])
            if is_over:
                self._forget(kept)

    def _give_up(self, now: float) -> None:
        """On answers that ended a while ago, so that none is held for ever."""
        for kept in list(self._kept.values()):
            if kept.over_at is not None and now - kept.over_at > _PATIENCE_SECONDS:
                self._forget(kept)

    def _forget(self, kept: _Kept) -> None:
        del self._kept[kept.turn.turn_id]
        if not self._kept:
            self._has_kept.clear()

    def _went_away(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("turn_log_away", reason=type(error).__name__)
        self._is_away = True

    def _was_refused(self, batches: int, reason: bytes) -> None:
        """Told once for as long as it lasts: with its disk full Valkey refuses all, each time."""
        if not self._is_refused:
            log.warning("turn_log_refused", batches=batches, reason=reason.decode(errors="replace"))
        self._is_refused = True

    async def read(self) -> None:
        """Read what other replicas write down of the turns that are followed here, for ever."""
        while True:
            await self._has_heard.wait()
            try:
                await self._read_once()
            except _FAILURES as error:
                self._went_away(error)
                await asyncio.sleep(_AWAY_SECONDS)

    async def _read_once(self) -> None:
        # Only keys are held while it waits: a turn that nobody follows any more goes by itself.
        places = {
            _key(turn.turn_id): f"{turn.last}-0"
            for turn in list(self._heard.values())
            if not turn.is_over and not turn.is_torn
        }
        if not places:
            self._has_heard.clear()
            return
        places[self._wake_key] = self._woken
        async with asyncio.timeout(_BLOCK_MILLISECONDS / 1000 + _ANSWER_SECONDS):
            answer = await self._listener.xread(places, block=_BLOCK_MILLISECONDS)  # type: ignore[arg-type]
        found: Any = answer.items() if isinstance(answer, dict) else answer or ()
        by_key = {_key(turn.turn_id).encode(): turn for turn in list(self._heard.values())}
        for key, entries in found:
            if key == self._wake_key.encode():
                self._woken = entries[-1][0]
            elif (turn := by_key.get(key)) is not None:
                _hear(turn, entries)


def _batch(kept: _Kept, is_over: bool, events: Sequence[LiveEvent]) -> list[str | int | bytes]:
    """What the script is told of one turn."""
    # Without the rest whoever follows elsewhere sees a gap, and gets the whole message at the end.
    batch = _packed(events) if events and kept.size <= LARGEST_LOG_BYTES else b""
    channel, message = "", b""
    if not kept.written and kept.turn.session_id is not None:
        channel, message = began_message(kept.turn.session_id, kept.turn.turn_id)
    # Each time: a Valkey that has lost the stream makes a new one, which would stay for ever.
    seconds = _KEPT_SECONDS if is_over else _LONGEST_TURN_SECONDS
    return [f"{kept.written + len(events)}-0", batch, seconds, channel, message]


def _hear(turn: HeardTurn, entries: Sequence[Any]) -> None:
    for id_, fields in entries:
        # Anybody who reaches this Valkey may write there; what can't be read is a gap.
        try:
            last, events = int(id_.split(b"-")[0]), _unpacked(fields[_FIELD])
        except (ValueError, KeyError, AttributeError):
            turn.is_torn = True
            return
        turn.hear(last - len(events) + 1, events)


def _packed(events: Sequence[LiveEvent]) -> bytes:
    """JSON of ours has no line breaks, and names have no spaces."""
    return b"\n".join([b"%b %b" % (name.encode(), data) for name, data in events])


def _unpacked(batch: bytes) -> list[LiveEvent]:
    events = []
    for line in batch.split(b"\n"):
        name, _, data = line.partition(b" ")
        events.append((name.decode("ascii"), data))
    return events


def _key(turn_id: TurnId) -> str:
    return f"turn:{{{turn_id}}}"
