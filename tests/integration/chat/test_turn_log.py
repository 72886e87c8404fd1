"""What turns say, in the real Valkey: whole from any position, bounded, and never waited for."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import CapturingLogger

from services.chat.domain.conversation import SessionId
from services.chat.domain.live import Emitted, HeardTurn, LiveEvent, Missed, TurnBegan
from services.chat.domain.turn import TurnId
from services.chat.storage import live_channel, turn_log
from services.chat.storage.live_channel import ValkeyLiveChannel
from services.chat.storage.turn_log import ValkeyTurnLog
from shared.background import running_beside
from shared.news import channel
from shared.valkey import open_cache, open_listener
from tests.support.engines import ValkeyServer, running_valkey
from tests.support.silent_way import SilentWay


@pytest.fixture
def url(valkey_server: ValkeyServer) -> Iterator[str]:
    with valkey_server.fresh_database() as url:
        yield url


@asynccontextmanager
async def a_replica(url: str, *, writes: bool = False) -> AsyncIterator[ValkeyTurnLog]:
    """The log as one replica has it, reading."""
    async with open_cache(url) as cache, open_listener(url) as listener:
        log = ValkeyTurnLog(cache, listener)
        works = (log.read(), log.write()) if writes else (log.read(),)
        async with running_beside(*works):
            yield log


def a_turn() -> HeardTurn:
    """A turn that says what it is told to."""
    return HeardTurn(TurnId(uuid4()), SessionId(uuid4()))


def pieces(count: int, *, last: bool = False) -> list[LiveEvent]:
    events = [("delta", b'{"text":"%d \\n"}' % n) for n in range(count)]
    return [*events, ("done", b"{}")] if last else events


async def heard(turn: HeardTurn, after: int = 0) -> Sequence[LiveEvent]:
    """All that it says after that, until it is over."""
    position, events = after, list[LiveEvent]()
    async with asyncio.timeout(5):
        while True:
            is_over, said = turn.is_over, turn.said(position)
            events += said
            position += len(said)
            if is_over:
                return events
            if not said:
                await turn.more(position)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), data=st.data())
def test_another_replica_hears_exactly_what_is_missing(
    valkey_server: ValkeyServer, sizes: list[int], data: st.DataObject
) -> None:
    """However it was written, wherever one begins, and whenever one comes."""
    all_events = pieces(sum(sizes), last=True)
    joins_after = data.draw(st.integers(0, len(sizes)))
    position = data.draw(st.integers(0, len(all_events)))

    async def scenario() -> None:
        with valkey_server.fresh_database() as url:
            async with a_replica(url) as here, a_replica(url) as there:
                turn, follower = a_turn(), None
                here.keep(turn)
                said = 0
                for batch, size in enumerate(sizes):
                    if batch == joins_after:
                        follower = await there.follow(turn.turn_id, turn.session_id)
                    turn.hear(said + 1, all_events[said : said + size])
                    said += size
                    await here.flush()
                turn.hear(said + 1, all_events[said:])
                await here.flush()
                if follower is None:
                    follower = await there.follow(turn.turn_id, turn.session_id)
                assert await heard(follower, position) == all_events[position:]
                assert await there.whole(turn.turn_id) == all_events

    asyncio.run(scenario())


async def test_a_batch_is_heard_at_once_and_without_a_question_each(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reader waits for the first turn alone for so long, unless it is told of another.
    monkeypatch.setattr(turn_log, "_BLOCK_MILLISECONDS", 60_000)
    async with a_replica(url, writes=True) as here, a_replica(url) as there:
        first, second = a_turn(), a_turn()
        for turn in (first, second):
            here.keep(turn)
            turn.hear(1, pieces(1))
        followed = await there.follow(first.turn_id, None)
        await asyncio.sleep(0.02)
        other = await there.follow(second.turn_id, None)
        second.hear(2, [("done", b"{}")])
        async with asyncio.timeout(10):
            await heard(other)
        assert not followed.is_over


async def test_the_log_expires(url: str) -> None:
    async with a_replica(url) as log, open_cache(url) as cache:
        turn = a_turn()
        log.keep(turn)
        turn.hear(1, pieces(2))
        await log.flush()
        key = f"turn:{{{turn.turn_id}}}"
        assert 3500 < await cache.ttl(key) <= 3600
        turn.hear(3, [("done", b"{}")])
        await log.flush()
        assert 850 < await cache.ttl(key) <= 900
        assert await cache.xlen(key) == 2


class Unspeakable(HeardTurn):
    """A turn that nobody can put into words."""

    def said(self, after: int) -> Sequence[LiveEvent]:
        raise TypeError


async def test_a_turn_that_can_not_be_written_down_keeps_no_other_from_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_lines = CapturingLogger()
    monkeypatch.setattr(turn_log, "log", log_lines)
    async with a_replica(url) as log:
        log.keep(Unspeakable(TurnId(uuid4()), SessionId(uuid4())))
        turn = a_turn()
        log.keep(turn)
        turn.hear(1, pieces(2))
        await log.flush()
        await log.flush()
        assert [call.args for call in log_lines.calls] == [("turn_not_written_down",)]
        assert await log.whole(turn.turn_id) == pieces(2)


async def test_who_writes_the_last_waits_for_what_is_being_written(url: str) -> None:
    # A replica that goes writes once more, whatever its own writer is at.
    async with a_replica(url) as here, a_replica(url) as there:
        over, running = a_turn(), a_turn()
        for turn in (over, running):
            here.keep(turn)
        over.hear(1, pieces(2, last=True))
        running.hear(1, pieces(2))
        await asyncio.gather(here.flush(), here.flush())
        assert await there.whole(over.turn_id) == pieces(2, last=True)
        running.hear(3, [("delta", b"{}"), ("delta", b"{}"), ("done", b"{}")])
        await here.flush()
        assert len(await there.whole(running.turn_id)) == 5


async def test_what_a_valkey_without_memory_of_it_goes_on_with_expires_too(url: str) -> None:
    async with a_replica(url) as log, open_cache(url) as cache:
        turn = a_turn()
        log.keep(turn)
        turn.hear(1, pieces(2))
        await log.flush()
        await cache.flushdb()
        turn.hear(3, pieces(1))
        await log.flush()
        assert 3500 < await cache.ttl(f"turn:{{{turn.turn_id}}}") <= 3600


async def test_an_answer_beyond_all_bounds_is_cut_in_the_log_alone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_log, "LARGEST_LOG_BYTES", 100)
    async with a_replica(url) as log:
        turn = a_turn()
        log.keep(turn)
        for n in range(10):
            turn.hear(n + 1, [("delta", b"x" * 40)])
            await log.flush()
        turn.hear(11, [("done", b"{}")])
        await log.flush()
        assert len(await log.whole(turn.turn_id)) == 3


async def test_what_is_missing_in_between_is_never_skipped(url: str) -> None:
    async with a_replica(url) as log, open_cache(url) as cache:
        turn = a_turn()
        log.keep(turn)
        turn.hear(1, pieces(2))
        await log.flush()
        follower = await log.follow(turn.turn_id, None)
        # Valkey comes back empty.
        await cache.flushdb()
        turn.hear(3, [("done", b"{}")])
        await log.flush()
        # Whoever was there has everything; whoever comes now waits for the database's word.
        assert [name for name, _ in await heard(follower)] == ["delta", "delta", "done"]
        del follower
        gc.collect()
        late = await log.follow(turn.turn_id, None)
        assert (late.is_torn, late.is_over, list(late.said(0))) == (True, False, [])
        assert list(log.silent(0)) == [late]
        assert await log.whole(turn.turn_id) == []


@pytest.mark.parametrize("fields", [{"e": b"\xff no json"}, {"other": b"1"}, {"e": b""}])
async def test_a_strangers_entry_tears_the_turn_and_nothing_else(
    url: str, fields: dict[Any, Any]
) -> None:
    async with a_replica(url) as log, open_cache(url) as cache:
        turn = a_turn()
        await cache.xadd(f"turn:{{{turn.turn_id}}}", fields, id="9-0")
        follower = await log.follow(turn.turn_id, None)
        assert list(follower.said(0)) == []
        assert follower.is_torn


async def test_a_turn_that_nobody_follows_is_forgotten(url: str) -> None:
    async with a_replica(url) as log:
        follower = await log.follow(TurnId(uuid4()), None)
        assert list(log.silent(0)) == [follower]
        del follower
        gc.collect()
        assert list(log.silent(0)) == []


async def test_a_stalled_valkey_is_never_waited_for_and_caught_up_with(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server:
        async with a_replica(server.url, writes=True) as log:
            turn = a_turn()
            log.keep(turn)
            turn.hear(1, pieces(3))
            os.kill(server.child.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                assert await log.whole(turn.turn_id) == ()
                assert time.monotonic() - began < 3
                turn.hear(4, [("done", b"{}")])
                await asyncio.sleep(0.2)
            finally:
                os.kill(server.child.pid, signal.SIGCONT)
            async with asyncio.timeout(5):
                while len(await log.whole(turn.turn_id)) < 4:
                    await asyncio.sleep(0.05)


async def test_a_valkey_that_takes_nothing_is_told_of_once_each_time_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_lines = CapturingLogger()
    monkeypatch.setattr(turn_log, "log", log_lines)
    with running_valkey(tmp_path) as server:
        async with a_replica(server.url) as log, open_cache(server.url) as cache:
            turn, said = a_turn(), 0
            log.keep(turn)
            for limit in ("1", "0", "1"):  # bytes; 0 is no limit
                await cache.config_set("maxmemory", limit)
                for _ in range(3):
                    said += 1
                    turn.hear(said, pieces(1))
                    await log.flush()
    lines = [(call.args, call.kwargs["batches"], call.kwargs["reason"]) for call in log_lines.calls]
    reason = "OOM command not allowed when used memory > 'maxmemory'."
    assert lines == [(("turn_log_refused",), 1, reason)] * 2


async def test_a_valkey_that_is_gone_without_a_word_is_asked_anew(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_log, "_BLOCK_MILLISECONDS", 50)
    monkeypatch.setattr(turn_log, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(turn_log, "_AWAY_SECONDS", 0.05)
    turn = a_turn()
    async with a_replica(url) as here, SilentWay.to(url) as way, a_replica(way.url) as there:
        here.keep(turn)
        turn.hear(1, pieces(1))
        await here.flush()
        follower = await there.follow(turn.turn_id, turn.session_id)
        async with asyncio.timeout(5):
            while way.connections < 2:
                await asyncio.sleep(0.01)
        way.fall_silent()
        turn.hear(2, [("done", b"{}")])
        await here.flush()
        assert len(await heard(follower)) == 2


async def test_news_of_a_valkey_that_is_gone_without_a_word_is_heard_anew(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_channel, "_SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(live_channel, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(channel, "_ANSWER_SECONDS", 0.3)
    async with (
        SilentWay.to(url) as way,
        open_cache(url) as cache,
        Redis.from_url(way.url, health_check_interval=0.2) as listener,
    ):
        news = ValkeyLiveChannel(cache, listener).heard()
        async with asyncio.timeout(5):
            assert isinstance(await anext(news), Missed)
            hearing = asyncio.ensure_future(anext(news))
            await asyncio.sleep(1)  # of silence in which it is asked, and answers
            assert not hearing.done()
            way.fall_silent()
            assert isinstance(await hearing, Missed)
        await news.aclose()  # type: ignore[attr-defined]


async def test_an_answer_that_nobody_can_write_down_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn_log, "_PATIENCE_SECONDS", 0.0)
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        log = ValkeyTurnLog(nowhere, nowhere)
        turn = a_turn()
        log.keep(turn)
        turn.hear(1, pieces(1, last=True))
        await log.flush()
        assert log.unwritten(turn.turn_id) is turn
        await asyncio.sleep(0.01)
        await log.flush()
        assert log.unwritten(turn.turn_id) is None


async def test_who_enters_a_room_second_waits_for_it_like_the_first(url: str) -> None:
    """Of two devices of one user that join at once, the other would miss what comes just then."""
    async with open_cache(url) as cache, open_listener(url) as listener:
        rooms, session_id = ValkeyLiveChannel(cache, listener), SessionId(uuid4())
        news = rooms.heard()
        async with asyncio.timeout(5):
            assert isinstance(await anext(news), Missed)
            both = [asyncio.create_task(rooms.enter(session_id)) for _ in range(2)]
            # Nobody reads yet what Valkey confirms.
            await asyncio.sleep(0.1)
            assert not any(one.done() for one in both)
            # Nor does it matter to the other that the first has gone again.
            both[0].cancel()
            hearing = asyncio.ensure_future(anext(news))
            await both[1]
            await rooms.emit(session_id, b"{}")
            assert await hearing == Emitted(session_id, b"{}")
        await news.aclose()  # type: ignore[attr-defined]


async def test_the_beginning_of_a_turn_is_announced_to_its_room(url: str) -> None:
    async with (
        a_replica(url) as log,
        open_cache(url) as cache,
        open_listener(url) as listener,
    ):
        channel = ValkeyLiveChannel(cache, listener)
        news = channel.heard()
        turn = a_turn()
        assert turn.session_id is not None
        async with asyncio.timeout(5):
            assert isinstance(await anext(news), Missed)
            hearing = asyncio.ensure_future(anext(news))
            await channel.enter(turn.session_id)
            log.keep(turn)
            turn.hear(1, pieces(1))
            await log.flush()
            assert await hearing == TurnBegan(turn.session_id, turn.turn_id)
        await news.aclose()  # type: ignore[attr-defined]
