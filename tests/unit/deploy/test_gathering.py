"""What processes write soon after each other is read together; nothing else waits for it."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from deploy.companion.supervision.gathering import GATHER_SECONDS, GatheringPoller, widen


class _Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.at = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def poller(clock: _Clock) -> Iterator[GatheringPoller]:
    made = GatheringPoller(SimpleNamespace(logger=None))
    made.now, made.sleep = clock.now, clock.sleep
    yield made
    made.close()


@pytest.fixture
def pipe(poller: GatheringPoller) -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    poller.register_readable(ends[0])
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def caller(poller: GatheringPoller) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A command's connection, seen from both ends."""
    ours, theirs = socket.socketpair()
    poller.register_readable(ours.fileno())
    with ours, theirs:
        yield ours, theirs


def test_after_a_line_it_rests_before_it_looks_again(
    poller: GatheringPoller, clock: _Clock, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"one\n")
    assert poller.poll(1) == ([pipe[0]], [])
    assert clock.slept == [], "the first line is read at once"
    os.write(pipe[1], b"two\n")
    assert poller.poll(1) == ([pipe[0]], [])
    assert clock.slept == [pytest.approx(GATHER_SECONDS)]


def test_who_comes_later_than_that_is_not_waited_for(
    poller: GatheringPoller, clock: _Clock, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"one\n")
    poller.poll(1)
    clock.at += GATHER_SECONDS
    poller.poll(1)
    assert clock.slept == []


def test_a_command_and_its_answer_follow_each_other_without_a_rest(
    poller: GatheringPoller,
    clock: _Clock,
    pipe: tuple[int, int],
    caller: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = caller
    theirs.send(b"stop")
    os.write(pipe[1], b"a line beside it\n")
    readable, _ = poller.poll(1)
    assert set(readable) == {ours.fileno(), pipe[0]}
    poller.register_writable(ours.fileno())
    assert poller.poll(1)[1] == [ours.fileno()]
    poller.poll(1)
    assert clock.slept == []


def test_nothing_to_read_is_no_reason_to_rest(poller: GatheringPoller, clock: _Clock) -> None:
    assert poller.poll(0) == ([], [])
    poller.poll(0)
    assert clock.slept == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has wider pipes")
def test_a_pipe_holds_as_much_as_is_read_at_once() -> None:
    ends = os.pipe()
    try:
        widen(ends[0])
        # What supervisord's `readfd` takes: of a process that has ended it reads once.
        assert fcntl.fcntl(ends[1], fcntl.F_GETPIPE_SZ) == 2 << 16
    finally:
        for end in ends:
            os.close(end)
