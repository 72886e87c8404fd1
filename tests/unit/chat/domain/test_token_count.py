"""What was counted for one question is not counted again for the next."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain import token_count
from services.chat.domain.content import Role, ToolCall, Utterance
from services.chat.domain.token_count import count_again, count_tokens, tokens_of


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were really counted, from nothing remembered on."""
    texts: list[str] = []

    def count(text: str) -> int:
        texts.append(text)
        return count_tokens(text)

    monkeypatch.setattr(token_count, "count_tokens", count)
    monkeypatch.setattr(token_count, "_remembered", {})
    return texts


def test_a_text_is_counted_once(counted: list[str]) -> None:
    said = Utterance(Role.USER, "The quick brown fox jumps over the lazy dog. 你好 🙂")
    first = tokens_of(said)
    assert [tokens_of(said), tokens_of(Utterance(Role.ASSISTANT, said.content))] == [first, first]
    assert first == count_tokens(said.content) + tokens_of(Utterance(Role.USER, ""))
    assert counted == [said.content, ""]


def test_calls_of_tools_are_counted_as_before(counted: list[str]) -> None:
    said = Utterance(Role.ASSISTANT, "Look.", tool_calls=[ToolCall("1", "look", '{"at": 12}')])
    assert tokens_of(said) == tokens_of(said) > count_tokens("Look.") + count_tokens('{"at": 12}')
    assert sorted(counted) == sorted(["Look.", "look", '{"at": 12}'])


def test_texts_of_one_length_are_told_apart(counted: list[str]) -> None:
    assert (count_again("aaaa"), count_again("1234"), count_again("aaaa")) == (1, 4, 1)
    assert counted == ["aaaa", "1234"]


class _Crafted(str):
    """A text of a hash that was chosen for it."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


def test_nobody_can_make_a_text_count_as_another(counted: list[str]) -> None:
    assert [count_again(_Crafted(text)) for text in ("aaaa", "1234")] == [1, 4]


@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=40), max_size=20))
def test_what_is_remembered_is_what_would_be_counted(texts: list[str]) -> None:
    for text in [*texts, *texts]:
        assert count_again(text) == count_tokens(text)


def test_what_is_remembered_says_nothing_of_the_text(counted: list[str]) -> None:
    count_again("hello")
    assert b"hello" not in b"".join(token_count._remembered)
    assert blake2b(b"hello", digest_size=16).digest() not in token_count._remembered


def test_no_more_is_remembered_than_there_is_room_for(
    counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_count, "_MOST_REMEMBERED", 3)
    for text in ("one", "two", "three", "four", "one"):
        assert count_again(text) == count_tokens(text)
    assert len(token_count._remembered) <= 3
    assert counted == ["one", "two", "three", "four", "one"]
