"""What is kept of a usage is all of it, and what nobody told is guessed well."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from dataclasses import asdict

import pytest

from services.chat.domain.usage import (
    Usage,
    estimated_input,
    estimated_tokens,
    estimated_usage,
    letters_of,
)


def test_a_record_has_every_part_and_the_total() -> None:
    usage = Usage(5, 1, 2, 7, 3, "counted", "flex")
    parts = asdict(usage)
    del parts["asides"]  # they are in the sums
    assert usage.to_record() == {**parts, "total_tokens": 12}


def test_what_each_call_used_comes_to_the_whole() -> None:
    """A price that depends on a prompt's length holds for each of them apart."""
    asides = (Usage(10, 2, 3, 40, 5), Usage(100, 20, 30, 400, 50))
    usage = Usage(1_000, 200, 300, 4_000, 500, service_tier="flex", asides=asides)
    own, *others = usage.calls
    assert own == Usage(890, 178, 267, 3_560, 445, service_tier="flex")
    assert tuple(others) == asides
    assert Usage(5).calls == (Usage(5),)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("word" * 10, 10),
        ("é" * 40, 10),
        ("Straße" * 200, 300),
        ("Straße " * 100 + "漢" * 100, 175 + 100),
        ("é" * 400 + "\ud83d" * 2, 102),
        ("слово и дело" * 4, 12),
        ("漢" * 1_000, 1_000),
        ("こんにちは", 5),
        ("안녕하세요", 5),
        ("🙂🙂", 2),
        ("สวัสดีชาวโลก", 6),
        ("नमस्ते दुनिया", 7),
        ("স্বাগতম" + "漢" * 3, 4 + 3),
        ("tiếng Việt", 3),  # which is of Latin letters, few of them beyond U+0800
        ("漢字 and more", 5),
        ("\ud83d", 1),  # half of a pair, as it may stand in JSON
    ],
)
def test_a_character_may_be_a_token_by_itself(text: str, tokens: int) -> None:
    assert estimated_tokens(letters_of(text)) == tokens


def test_a_long_text_of_the_west_is_not_counted_by_the_character() -> None:
    text = "Größe und Maß der Dinge. " * 4_000

    def seconds(count: Callable[[], object]) -> float:
        return min(timeit.repeat(count, number=1, repeat=20))

    assert seconds(lambda: letters_of(text)) < seconds(lambda: text.encode()) / 2


def test_a_prompt_is_its_text_and_what_is_around_it() -> None:
    assert estimated_input(40, 2, images=1, tool_letters=4) == 11 + 8 + 1_000


def test_what_the_vendor_told_before_it_broke_off_is_kept() -> None:
    told = Usage(100_000, cache_read_tokens=99_000, output_tokens=1)
    known = estimated_usage(25_000, 400, told, max_output_tokens=100)
    assert known == Usage(100_000, cache_read_tokens=99_000, output_tokens=100, source="estimated")
    # It may have counted more than was said.
    told = Usage(10, output_tokens=500)
    assert estimated_usage(25_000, 400, told, max_output_tokens=100).output_tokens == 500
    # Of some the tier of service alone is known before the end.
    told = Usage(service_tier="flex")
    assert estimated_usage(25_000, 400, told, max_output_tokens=None) == Usage(
        25_000, output_tokens=100, source="estimated", service_tier="flex"
    )
    known = estimated_usage(25_000, 400, max_output_tokens=None)
    assert known == Usage(25_000, output_tokens=100, source="estimated")


@pytest.mark.parametrize(
    ("told", "output_tokens"),
    [
        (None, 8_000),
        (Usage(10, output_tokens=1), 8_001),  # as it began
        (Usage(10, output_tokens=9_000), 17_000),  # with an earlier go of the same answer
        (Usage(10, output_tokens=4_000, output_reasoning_tokens=4_000), 12_000),
    ],
)
def test_no_more_is_guessed_than_the_vendor_may_have_said(
    told: Usage | None, output_tokens: int
) -> None:
    known = estimated_usage(25_000, 50 << 20, told, max_output_tokens=8_000)
    assert known.output_tokens == output_tokens
    assert estimated_usage(25_000, 400, told, max_output_tokens=0).output_tokens == (
        told.output_tokens if told else 0
    )


@pytest.mark.parametrize(
    ("shown", "output_tokens"),
    [
        (0, 4_000 + 100),  # it thought in silence, and then said this much
        (200, 4_000 + 50),  # a part was an outline of the same thoughts
        (400, 4_000),
    ],
)
def test_what_was_said_comes_to_what_was_told_of_thinking(shown: int, output_tokens: int) -> None:
    told = Usage(10, output_tokens=4_000, output_reasoning_tokens=4_000)
    known = estimated_usage(25_000, 400, told, thought_letters=shown, max_output_tokens=8_000)
    assert (known.output_tokens, known.output_reasoning_tokens) == (output_tokens, 4_000)
