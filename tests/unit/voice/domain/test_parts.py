"""Where a long text may be divided."""

from __future__ import annotations

import re
import time

import pytest

from services.voice.domain.parts import parts_of

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
WAVE = "\U0001f44b\U0001f3fd"
FLAG = "\U0001f1fa\U0001f1f3"


def without_space(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("most", [40, 100, 333])
def test_parts_end_with_sentences(most: int) -> None:
    text = "Dr. Nemo came at 3.5 o'clock. Did she? She did! " * 30
    parts = parts_of(text, most)
    assert without_space("".join(parts)) == without_space(text)
    assert all(len(part) <= most and part[-1] in ".?!" for part in parts)
    # Neither a title nor a number is the end of one.
    assert not any(part.endswith(("Dr.", "3.")) for part in parts)


@pytest.mark.parametrize(
    ("language", "text", "ends"),
    [
        (None, "これは文です。次の文です。" * 40, "。"),
        ("zh", "这是一句话。那是另一句话！" * 40, "。！"),
        (None, "यह एक वाक्य है। यह दूसरा है। " * 40, "।"),
        (None, "Это предложение. Это другое! " * 40, ".!"),
        ("de", "Am 3. Mai kam Dr. Nemo z. B. nicht. Warum nicht? " * 20, ".?"),
    ],
)
def test_every_language_has_its_own_sentences(language: str | None, text: str, ends: str) -> None:
    parts = parts_of(text, 120, language=language)
    assert without_space("".join(parts)) == without_space(text)
    assert all(part[-1] in ends for part in parts)


def test_a_sentence_that_is_too_long_is_divided_after_a_clause() -> None:
    parts = parts_of("one two three, four five six, " * 20, 100)
    assert all(part.endswith(",") and len(part) <= 100 for part in parts)


def test_without_clauses_after_a_word() -> None:
    parts = parts_of("seven " * 100, 50)
    assert {word for part in parts for word in part.split()} == {"seven"}


@pytest.mark.parametrize("sign", ["a", "e\u0301", FAMILY, WAVE, FLAG, "\u1100\u1161\u11a8"])
def test_without_words_between_what_readers_see_as_characters(sign: str) -> None:
    for most in (50, 51, 53, 57):
        parts = parts_of(sign * 100, most)
        assert "".join(parts) == sign * 100
        # A flag is two of a kind, and where a row of them begins can't be seen from its middle.
        assert sign == FLAG or all(not part.replace(sign, "") for part in parts)
        assert all(len(part) <= most for part in parts)


def test_a_flag_between_letters_is_never_cut_in_half() -> None:
    for most in (50, 51, 52, 53, 54):
        parts = parts_of(f"abc{FLAG}" * 50, most)
        assert "".join(parts) == f"abc{FLAG}" * 50
        assert all(part.count(FLAG) * 2 == sum(map(part.count, FLAG)) for part in parts)


def test_white_space_alone_is_no_part() -> None:
    assert parts_of("One." + " " * 500 + "Two.", 100) == ["One.", "Two."]


def test_what_fits_is_one_part() -> None:
    assert parts_of("One. Two.", 9) == ["One. Two."]


@pytest.mark.parametrize("nasty", ["\u201c", "(a.", '("', ". ", "日本。", "e.g. ", "\n", "😀"])
def test_no_text_takes_long(nasty: str) -> None:
    text = (nasty * 40_000)[:40_000]
    begun = time.process_time()
    parts = parts_of(text, 5_000)
    assert time.process_time() - begun < 0.5
    assert all(0 < len(part) <= 5_000 for part in parts)
