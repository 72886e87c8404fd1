"""What of an answer is read out, sentence by sentence while it is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.chat.domain.spoken_text import LONGEST_CHUNK, SpokenText, speakable_text

# However busy the machine is that makes them up.
A_FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

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


@A_FEW
@example(list(range(len(ANSWER))))
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


@A_FEW
@given(sentences, st.integers(1, 40))
def test_prose_is_said_whole_in_order_and_in_pieces(
    said: list[tuple[list[str], str]], n: int
) -> None:
    prose = " ".join(" ".join(one) + end for one, end in said)
    pieces = [prose[i : i + n] for i in range(0, len(prose), n)]
    chunks = spoken(pieces)
    assert " ".join(chunks) == " ".join(prose.split())
    assert all(0 < len(chunk) <= LONGEST_CHUNK for chunk in chunks)


@A_FEW
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


@pytest.mark.parametrize("clause", [",", ";", ":", " –", "—", "、"])
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


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Call `one. Two` here. Next", ["Call one. Two here.", "Next"]),
        ("Read [One. Two](/a) here. Next", ["Read One. Two here.", "Next"]),
        ('Read [it](/a "One. Two") here. Next', ["Read it here.", "Next"]),
        ("See https://example.com/" + "x" * 250 + " now.", ["See example.com now."]),
        ("One part\n***\nanother part", ["One part", "another part"]),
        ("One part\n[a]: /b\nanother part", ["One part", "another part"]),
        ("One part\n  \nanother part", ["One part", "another part"]),
        ("One part\n- another part", ["One part", "another part"]),
        ("One part\n2. another part", ["One part", "2. another part"]),
        ("| a. b | c |\nOne part", ["One part"]),
        ("[a]:One part. Another part", ["[a]:One part.", "Another part"]),
        ("One part\r\n\r\nanother\r\npart", ["One part", "another part"]),
        ("One part\n```\nx. y\n\nz\n```\nanother part", ["One part", "another part"]),
        ("```\n~~~\nx.\n``` y.\nz.\n````\nOne part", ["One part"]),
    ],
)
def test_a_sentence_ends_where_it_does_and_not_within_a_mark(answer: str, said: list[str]) -> None:
    assert spoken([answer]) == spoken([*answer]) == said


def test_a_long_sentence_is_cut_at_the_last_clause_that_fits() -> None:
    sentence = "word " * 14 + "one, " + "word " * 14 + "two, " + "word " * 14 + "three."
    said = spoken([sentence])
    assert [chunk.rpartition(" ")[2] for chunk in said] == ["two,", "three."]


def test_what_is_never_closed_is_waited_for_no_longer_than_that() -> None:
    for mark in ("`", "[", "https://"):
        text = SpokenText()
        assert text.add(mark + "word" * 60) == []
        assert text.add("word" * 140), "nobody closes it any more"


def test_a_sentence_that_just_fits_is_not_cut() -> None:
    fits = "word " * 39 + "fits."
    assert len(fits) == LONGEST_CHUNK
    assert spoken([fits + " More."]) == [fits, "More."]


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
        ("## Title ##", "Title"),
        ("ring\x07 the\u200b bell\x85", "ring the bell"),
        ("***", ""),
        ("👍", ""),
    ],
)
def test_marks_are_not_said(prose: str, said: str) -> None:
    assert speakable_text(prose) == said
