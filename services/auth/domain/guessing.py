"""How many guesses a password would stand, by the way people really choose them (zxcvbn)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod

from zxcvbn.matching import (
    L33T_TABLE,
    RANKED_DICTIONARIES,
    build_ranked_dict,
    omnimatch,
    relevant_l33t_subtable,
)
from zxcvbn.scoring import most_guessable_match_sequence

# The time grows faster than the text; what comes later can only make it harder to guess.
_EXAMINED = 64
# It tries every reading of digits as letters, of which a text made for that has thousands.
_MOST_READINGS = 6
_ONE_READING = str.maketrans(
    {sign: letter for letter, signs in reversed(L33T_TABLE.items()) for sign in signs}
)
_WORDS = re.compile(r"[^\W_]+")


def guesses_for(text: str, *, about: Iterable[str]) -> int:
    """The guesses of somebody who tries likely passwords first, and knows these words.

    Takes some milliseconds of the processor, rarely more than 50: not for an event loop.
    """
    examined = text[:_EXAMINED]
    if _readings(examined) > _MOST_READINGS:
        examined = examined.translate(_ONE_READING)
    # Not `zxcvbn(…)`: it keeps the words of its caller in a dictionary that all callers share.
    known = {**RANKED_DICTIONARIES, "user_inputs": build_ranked_dict(_words(about))}
    found = most_guessable_match_sequence(examined, omnimatch(examined, known))
    return int(found["guesses"])


def _readings(text: str) -> int:
    return prod(len(signs) for signs in relevant_l33t_subtable(text, L33T_TABLE).values())


def _words(about: Iterable[str]) -> list[str]:
    whole = [word.lower() for word in about]
    parts = [part for word in whole for part in _WORDS.findall(word)]
    return list(dict.fromkeys([*whole, *parts]))
