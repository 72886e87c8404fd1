"""How many guesses a password would stand."""

from __future__ import annotations

import time

import pytest

from services.auth.domain.guessing import guesses_for

ABOUT = ("ada.lovelace", "countess", "tooltip", "companion")
ENOUGH = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "a lamp lights nine rooms",
        "Str0ng-Passw0rd!23",
        "Test-password-1",
        "correct horse battery staple",
        "phrase 5f4dcc3b5aa765d61d8327deb882cf99",
        "zwölf Boxkämpfer jagen Viktor",
        "電車で行きますか今日は晴れです",
    ],
)
def test_what_people_may_well_choose_is_enough(text: str) -> None:
    assert guesses_for(text, about=ABOUT) >= ENOUGH


@pytest.mark.parametrize(
    "text",
    [
        "aaaaaaaaaaaaaaaa",
        "123456789012",
        "passwordpassword",
        "P@ssw0rd1234",
        "qwertyuiop123",
        "iloveyou1234",
        "abcabcabcabc",
        "ada.lovelace1",
        "countess1234",
        "companion123",
    ],
)
def test_what_is_tried_first_is_not(text: str) -> None:
    assert guesses_for(text, about=ABOUT) < ENOUGH


def test_nobodys_words_stay_for_the_next() -> None:
    before = guesses_for("ada lovelace countess", about=())
    assert guesses_for("ada lovelace countess", about=ABOUT) < before
    assert guesses_for("ada lovelace countess", about=()) == before


@pytest.mark.parametrize("text", ["4@8({[<36&1!|7+0$5%2", "l1!I|i", "a", "0123456789", "p4$$w0rd"])
def test_no_text_makes_it_slow(text: str) -> None:
    long = (text * 256)[:256]
    fastest = min(_seconds(long) for _ in range(3))
    # Unbounded, the first of these takes over a second for 64 characters.
    assert fastest < 0.3


def _seconds(text: str) -> float:
    began = time.process_time()
    guesses_for(text, about=ABOUT)
    return time.process_time() - began
