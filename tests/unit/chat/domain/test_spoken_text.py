"""What of an answer is read out, sentence by sentence while it is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chat.domain.spoken_text import LONGEST_CHUNK, SpokenText, speakable_text

ANSWER = """# Title here

Hello **world**! See [the docs](https://example.com/a.b?c=d) and https://www.example.org/x.html. It
costs 3.5 dollars, e.g. today. Use `foo.bar()` now. ![A cat.](https://example.com/cat.png)

```python
print("not. a. word.")
```

| a | b |
|---|---|
| 1 | 2 |

[one]: https://example.com/one

- first item
- second _item_. With two sentences
1. numbered
   ~~~
   nor this.
   ~~~
---
> quoted snake_case_name, and 2 * 3 = 2*3
The end"""

SPOKEN = [
    "Title here",
    "Hello world!",
    "See the docs and example.org.",
    "It costs 3.5 dollars, e.g. today.",
    "Use foo.bar() now.",
    "A cat.",
    "first item",
    "second item.",
    "With two sentences",
    "1. numbered",
    "quoted snake_case_name, and 2 * 3 = 2*3 The end",
]


def spoken(pieces: Sequence[str]) -> list[str]:
    text = SpokenText()
    early = [sentence for piece in pieces for sentence in text.add(piece)]
    return [*early, *text.finish()]


def test_an_answer_is_read_out_without_its_marks() -> None:
    assert spoken([ANSWER]) == SPOKEN


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(ANSWER)), max_size=60))
def test_how_it_is_cut_on_its_way_is_not_heard(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[a:b] for a, b in pairwise(places)]
    assert spoken(pieces) == SPOKEN


words = st.text("abcdefgABC", min_size=1, max_size=12)
sentences = st.lists(
    st.tuples(st.lists(words, min_size=1, max_size=60), st.sampled_from([".", "!", "?", ",", ""])),
    max_size=12,
)


@settings(max_examples=30)
@given(sentences, st.integers(1, 40))
def test_prose_is_said_whole_in_order_and_in_pieces(
    said: list[tuple[list[str], str]], n: int
) -> None:
    prose = " ".join(" ".join(one) + end for one, end in said)
    pieces = [prose[i : i + n] for i in range(0, len(prose), n)]
    chunks = spoken(pieces)
    assert " ".join(chunks) == " ".join(prose.split())
    assert all(0 < len(chunk) <= LONGEST_CHUNK for chunk in chunks)


@settings(max_examples=30)
@given(st.text(alphabet="ab1 .!\n`*_[]()|#>-~:/<\\é。\x00", max_size=700), st.integers(1, 9))
def test_any_text_is_taken_and_what_is_said_can_be_said(text: str, n: int) -> None:
    chunks = spoken([text[i : i + n] for i in range(0, len(text), n)])
    for chunk in chunks:
        assert chunk == chunk.strip()
        assert 0 < len(chunk) <= LONGEST_CHUNK
        assert "\x00" not in chunk


def test_a_sentence_is_said_as_soon_as_the_next_one_begins() -> None:
    text = SpokenText()
    assert text.add("Hello there.") == [], "a digit or another full stop may follow"
    assert text.add(" H") == ["Hello there."]
    assert text.add("ow are you?\n\n") == ["How are you?"]
    assert text.finish() == []


@pytest.mark.parametrize("clause", [",", ";", ":", " –"])
def test_a_sentence_without_an_end_is_cut_at_a_clause(clause: str) -> None:
    text = SpokenText()
    begins = "word " * 20 + "last" + clause
    said = text.add(begins + " and on" * 30)
    assert said[0] == begins
    assert text.add(" and on" * 30), "the rest does not wait for an end either"


def test_text_without_clauses_or_words_is_cut_all_the_same() -> None:
    assert [len(chunk) for chunk in spoken(["x" * 450])] == [200, 200, 50]
    (first, *_) = spoken(["word " * 80])
    assert first.endswith("word")


def test_nothing_is_cut_within_a_link() -> None:
    link = "[" + "word " * 45 + "end](https://example.com/" + "x" * 200 + ")"
    assert " ".join(spoken([link + " and more."])) == "word " * 45 + "end and more."


def test_code_that_is_never_closed_is_not_said() -> None:
    assert spoken(["Look.\n\n```\nx = 1. y = 2.\n"]) == ["Look."]
    assert spoken(["Here ```x.y``` and `code` in a line. Next"]) == [
        "Here x.y and code in a line.",
        "Next",
    ]


@pytest.mark.parametrize(
    ("prose", "said"),
    [
        ("你好。再见。", "你好。再见。"),
        ("<b>bold</b> and 1 < 2 > 0", "bold and 1 < 2 > 0"),
        ("\\*not emphasis\\*", "*not emphasis*"),
        ("~~gone~~ ***both***", "gone both"),
        ("<https://example.com/long/path>", "example.com"),
        ("Look at https://example.com.", "Look at example.com."),
        ("***", ""),
        ("👍", ""),
    ],
)
def test_marks_are_not_said(prose: str, said: str) -> None:
    assert speakable_text(prose) == said
