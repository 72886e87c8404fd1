"""Stop sequences where the vendor has none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.frames import Began, Ended, Frame, Text, ToolCallPiece
from services.chat.domain.usage import Usage
from services.chat.providers._stopping import stopping
from shared.vendors.failures import VendorFailed
from tests.support.wires import read, told, whole

END = Ended("length", Usage(1, output_tokens=9))
STOPPED = Ended("stop", END.usage, why="stop_sequence")


class Scripted:
    """Reads each byte as the next frames of its script; without an end it was cut."""

    def __init__(self, *script: Frame) -> None:
        self._script = list(script)

    def feed(self, data: bytes) -> Sequence[Frame]:
        if not self._script:
            raise VendorFailed("openai")
        return [self._script.pop(0) for _ in data]

    def end(self) -> Sequence[Frame]:
        if any(isinstance(frame, Ended) for frame in self._script):
            return [self._script.pop(0) for _ in list(self._script)]
        raise VendorFailed("openai")


def passed(*script: Frame, stops: Sequence[str]) -> list[Frame]:
    return whole(stopping(Scripted(*script), stops), b"." * (len(script) - 1))


@given(
    st.text(alphabet="ab", max_size=30),
    st.lists(st.integers(0, 30), max_size=8),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_text_ends_before_the_first_stop_however_it_comes(
    text: str, places: list[int], stops: list[str]
) -> None:
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    pieces = [Text(text[a:b]) for a, b in pairwise(bounds)]
    found = [at for stop in stops if (at := text.find(stop)) >= 0]

    frames = passed(*pieces, END, stops=stops)

    # A longer sequence may begin earlier and be complete later than a shorter one.
    said = told(frames)[0]
    assert text.startswith(said)
    assert not any(stop in said for stop in stops)
    if found:
        assert len(said) >= min(found)
        assert frames[-1] == STOPPED
    else:
        assert (said, frames[-1]) == (text, END)


def test_what_could_begin_a_stop_waits_no_longer_than_it_must() -> None:
    reader = stopping(Scripted(Text("a EN"), Text("DING"), Text("b E"), END), ["END!"])
    assert reader.feed(b".") == [Text("a ")]
    assert reader.feed(b".") == [Text("ENDING")]
    assert reader.feed(b".") == [Text("b ")]
    assert reader.end() == [Text("E"), END]


def test_after_the_stop_only_the_usage_counts() -> None:
    call = ToolCallPiece(0, "call_1", "look", "{}")
    frames = passed(Began("1", None), Text("a.b"), Text("c"), call, END, stops=["."])
    assert frames == [Began("1", None), Text("a"), STOPPED]


def test_a_call_lets_the_waiting_text_go_first() -> None:
    call = ToolCallPiece(0, "call_1", "look", "{}")
    assert passed(Text("a EN"), call, END, stops=["END"]) == [Text("a "), Text("EN"), call, END]


@pytest.mark.parametrize("pieces", [[b"."], [b".", b"."]])
def test_a_failure_after_the_stop_costs_no_more_than_the_usage(pieces: list[bytes]) -> None:
    frames, failure = read(stopping(Scripted(Text("a.b")), ["."]), pieces)
    assert failure is None
    assert frames == [Text("a"), Ended("stop", None, why="stop_sequence")]


def test_a_failure_after_the_end_takes_nothing_back() -> None:
    frames, failure = read(stopping(Scripted(Text("a.b"), END), ["."]), [b"..", b"."])
    assert failure is None
    assert frames == [Text("a"), STOPPED]


def test_a_failure_before_it_is_one() -> None:
    frames, failure = read(stopping(Scripted(Text("ab")), ["."]), [b"."])
    assert frames == [Text("ab")]
    assert isinstance(failure, VendorFailed)


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_stops_nothing_stands_between(stops: list[str]) -> None:
    reader = Scripted(END)
    assert stopping(reader, stops) is reader
