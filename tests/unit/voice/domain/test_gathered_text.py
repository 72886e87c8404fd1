"""Text that comes in bits is said in pieces worth saying."""

from __future__ import annotations

import pytest

from services.voice.domain.gathered_text import (
    LONGEST_PIECE,
    Gathering,
    Scheduled,
    WholeSentences,
)


def taken(text: Gathering, *, everything: bool = False) -> list[str]:
    pieces = []
    while (piece := text.take(everything=everything)) is not None:
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    ("bits", "pieces", "left"),
    [
        (["Hello there. How are"], ["Hello there. "], "How are"),
        (["Hello ", "there."], ["Hello there."], ""),
        (["One. Two! Three?"], ["One. Two! Three?"], ""),
        (["It is 3."], [], "It is 3."),
        (["It is 3.", "14 or so"], [], "It is 3.14 or so"),
        (['He said "no." Then'], ['He said "no." '], "Then"),
        (["a line\nand"], ["a line\n"], "and"),
        (["今日は。明日"], ["今日は。"], "明日"),
        (["   \n "], [], ""),
        (["no end"], [], "no end"),
        (["Mr."], [], "Mr."),
        (["Mr. Smith"], [], "Mr. Smith"),
        (
            ["Dr. Smith came at 5 p.m. yesterday. He"],
            ["Dr. Smith came at 5 p.m. yesterday. "],
            "He",
        ),
        (["He left. Mr. Smith"], ["He left. "], "Mr. Smith"),
        (["Nimm z.B. das. Und"], ["Nimm z.B. das. "], "Und"),
        (["all in small. like this"], ["all in small. "], "like this"),
        (["1. Open it. 2. Close"], ["1. Open it. "], "2. Close"),
        (["(As he said.) Then"], ["(As he said.) "], "Then"),
        (["Привет. Как"], ["Привет. "], "Как"),
        (["नमस्ते। आप"], ["नमस्ते। "], "आप"),
        (["كيف حالك؟ أنا"], ["كيف حالك؟ "], "أنا"),
        (["آپ کیسے ہیں۔ میں"], ["آپ کیسے ہیں۔ "], "میں"),
    ],
)
def test_whole_sentences_are_said_as_soon_as_they_are_there(
    bits: list[str], pieces: list[str], left: str
) -> None:
    text = WholeSentences()
    for bit in bits:
        text.add(bit)
    assert taken(text) == pieces
    assert text.waiting == len(left) or not left.strip()
    assert taken(text, everything=True) == ([left] if left.strip() else [])


@pytest.mark.parametrize(
    ("said", "may_be_over"),
    [("OK.", True), ("He met Mr. ", True), ("It is 3.", True), ("and on", False), ("", False)],
)
def test_what_may_be_over_is_told_from_what_is_not(said: str, *, may_be_over: bool) -> None:
    text = WholeSentences()
    text.add(said)
    assert (taken(text), text.may_be_over) == ([], may_be_over)


def test_what_was_flushed_is_all_that_need_not_wait() -> None:
    text = WholeSentences()
    text.add("no end")
    text.flush()
    text.add(" of it")
    assert taken(text) == ["no end "]
    text.add(", and on. And")
    assert taken(text) == ["of it, and on. "]
    text.flush()
    text.add(" on")
    assert (taken(text), text.waiting) == (["And "], 2)
    # A sentence that ends behind it takes it along.
    text.flush()
    text.add(" it goes. So")
    assert (taken(text), text.waiting) == (["on it goes. "], 2)


def test_what_was_flushed_is_bounded_too() -> None:
    text = WholeSentences()
    text.add("x" * 2_100)
    text.flush()
    text.add(" no end")
    pieces = taken(text)
    assert (sum(map(len, pieces)), max(map(len, pieces))) == (2_101, LONGEST_PIECE)
    assert text.waiting == len("no end")


def test_nobody_waits_for_the_end_of_an_endless_sentence() -> None:
    text = WholeSentences()
    text.add("and on " * 50)
    assert len(taken(text)) == 1


@pytest.mark.parametrize("given", ["word " * 1_000, "x" * 5_000, "A sentence. " * 500])
@pytest.mark.parametrize("kind", [WholeSentences, lambda: Scheduled([50])])
def test_pieces_are_bounded_and_nothing_is_lost(given: str, kind: type[WholeSentences]) -> None:
    text = kind()
    text.add(given)
    pieces = taken(text, everything=True)
    assert max(map(len, pieces)) <= LONGEST_PIECE
    assert "".join(pieces).replace(" ", "") == given.replace(" ", "")


def test_the_vendors_schedule_is_kept() -> None:
    text = Scheduled([60, 100])
    text.add("x" * 59)
    assert taken(text) == []
    text.add(" and")
    assert taken(text) == ["x" * 59 + " "], "the last word may go on"
    text.add("y" * 90 + " ")
    assert taken(text) == []
    text.is_hurried = True
    assert taken(text) == ["and" + "y" * 90 + " "]
    text.add("z ")
    assert taken(text) == []
    assert taken(text, everything=True) == ["z "]
