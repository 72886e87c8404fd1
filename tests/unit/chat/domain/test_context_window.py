"""What of a conversation the vendor sees: the newest exchanges that fit, none cut in half."""

from __future__ import annotations

import base64
import random
import re
import string
from dataclasses import fields
from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.content import (
    ImagePart,
    Role,
    TextPart,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
    Utterance,
)
from services.chat.domain.context_window import (
    IMAGE_NOTE,
    Window,
    answers,
    coherent,
    exchanges,
    fitted,
    halved,
    window_of,
    without_images,
    without_tools,
)
from services.chat.domain.errors import QuestionTooLong
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.token_count import (
    MOST_BYTES_PER_TOKEN,
    about_tokens,
    count_tokens,
    most_tokens,
    most_tokens_of,
    tokens_of,
    tokens_of_tool,
)
from services.chat.domain.turn import Prompt
from tests.support.simulator.answers import count_tokens as counted_by_simulator

_texts = st.text(max_size=60)
WORDS = ("the", "answer", "is_", "Because", "{", "naïve", "=", "0")
_ids = st.sampled_from(["a", "b", "c"])


@st.composite
def conversations(draw: st.DrawFn) -> list[Utterance]:
    """Anything that may stand in a database, also what no vendor would take."""
    found = []
    for _ in range(draw(st.integers(0, 12))):
        role = draw(st.sampled_from([Role.USER, Role.ASSISTANT, Role.TOOL]))
        ids = draw(st.lists(_ids, unique=True, max_size=3))
        if role is Role.TOOL:
            found.append(
                Utterance(role, "", tool_results=[ToolResult(i, draw(_texts)) for i in ids])
            )
        else:
            calls = [ToolCall(i, "f", "{}") for i in ids] if role is Role.ASSISTANT else []
            found.append(Utterance(role, draw(_texts), tool_calls=calls))
    return found


question = st.builds(Utterance, st.just(Role.USER), _texts)


@given(conversations(), question, st.integers(0, 400), st.integers(0, 400))
def test_what_is_sent_is_the_newest_that_fits_and_whole(
    history: list[Utterance], asked: Utterance, most: int, most_history: int
) -> None:
    said = coherent([*history, asked])
    window = Window(tokens_of(asked) + most, most_history)

    result = fitted(said, window)

    sent = list(result.utterances)
    assert sent == said[len(said) - len(sent) :]
    assert sent[-1] == asked
    assert sent[0].role is Role.USER
    assert result.left_out == len(said) - len(sent)
    assert sum(map(tokens_of, sent)) <= window.prompt_tokens
    assert sum(map(tokens_of, sent[:-1])) <= most_history
    # The next older exchange would not have fitted.
    forgotten = [e for e in exchanges(said)[:-1] if e[0] not in sent]
    if forgotten:
        needed = sum(map(tokens_of, forgotten[-1]))
        room = min(window.prompt_tokens - tokens_of(asked), most_history)
        assert needed + sum(map(tokens_of, sent[:-1])) > room


@given(conversations(), question)
def test_calls_and_results_are_sent_together_or_not_at_all(
    history: list[Utterance], asked: Utterance
) -> None:
    said = coherent([*history, asked])
    for before, after in zip([None, *said], [*said, None], strict=False):
        if before is not None and before.tool_calls:
            assert after is not None
            assert answers(after, before)
        if after is not None and after.role is Role.TOOL:
            assert before is not None
            assert answers(after, before)


@given(conversations(), question)
def test_what_is_coherent_stays_as_it_is(history: list[Utterance], asked: Utterance) -> None:
    said = coherent([*history, asked])
    assert coherent(said) == said


@given(conversations(), question)
def test_halving_ends_with_the_question_alone(history: list[Utterance], asked: Utterance) -> None:
    prompt: Prompt | None = a_prompt(*coherent([*history, asked]))
    for _ in range(12):
        assert prompt is not None
        shorter = halved(prompt)
        if shorter is None:
            assert len(exchanges(prompt.utterances)) == 1
            return
        assert len(shorter.utterances) < len(prompt.utterances)
        assert shorter.utterances[-1] == asked
        prompt = shorter
    raise AssertionError("never came to an end")


def test_halving_leaves_the_newer_half() -> None:
    said = [Utterance(role, "word") for _ in range(4) for role in (Role.USER, Role.ASSISTANT)]
    shorter = halved(a_prompt(*said, Utterance(Role.USER, "And now?")))
    assert shorter is not None
    assert len(shorter.utterances) == 5


@pytest.mark.parametrize("called", [("1",), ("1", "2", "3"), ("1", "3")])
def test_results_of_other_calls_are_no_answer(called: tuple[str, ...]) -> None:
    calls = Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall(id_, "f", "{}") for id_ in called])
    results = Utterance(Role.TOOL, "", tool_results=[ToolResult(id_, "x") for id_ in ("2", "1")])
    assert not answers(results, calls)
    assert coherent([calls, results]) == []


@given(conversations(), question)
def test_what_fits_is_sent_from_its_first_question_on(
    history: list[Utterance], asked: Utterance
) -> None:
    for said in ([*history, asked], history):
        whole = fitted(said, Window(100_000, 100_000))
        assert whole.utterances == list(chain(*exchanges(said)))
        assert whole.left_out == len(said) - len(whole.utterances)


def test_what_nobody_asked_for_is_sent_all_the_same() -> None:
    said = [Utterance(Role.ASSISTANT, "Once upon a time")]
    assert fitted(said, Window(1_000, 1_000)).utterances == said


def a_prompt(*utterances: Utterance) -> Prompt:
    return Prompt(ModelChoice("openai", "m", 100), None, utterances, "someone")


def test_calls_that_nobody_answered_and_results_that_nobody_asked_for_are_left_out() -> None:
    first, second = Utterance(Role.USER, "Look."), Utterance(Role.USER, "And now?")
    calls = [ToolCall("1", "look", "{}")]
    silent = Utterance(Role.ASSISTANT, "", tool_calls=calls)
    spoken = Utterance(Role.ASSISTANT, "I look.", tool_calls=calls)
    result = Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "A tree.")])
    assert coherent([first, silent, second]) == [first, second]
    assert coherent([first, spoken, second]) == [
        first,
        Utterance(Role.ASSISTANT, "I look."),
        second,
    ]
    assert coherent([first, result, second]) == [first, second]
    assert coherent([first, silent, result, second]) == [first, silent, result, second]


@given(conversations())
def test_the_quick_count_of_all_is_never_less_than_the_exact_one(said: list[Utterance]) -> None:
    assert most_tokens_of(said) >= sum(map(tokens_of, said))
    assert most_tokens_of(said) == sum(most_tokens_of([one]) for one in said)


def test_the_quick_count_takes_characters_beyond_ascii_for_what_they_may_be() -> None:
    said = [Utterance(Role.USER, "漢字" * 50), Utterance(Role.ASSISTANT, "🙂" * 50)]
    assert most_tokens_of(said) >= sum(map(tokens_of, said)) > 50 * 5


_MORE_THAN_TEXT: dict[str, list[Any]] = {
    "parts": [TextPart("said"), ImagePart("image/png", b"x")],
    "tool_calls": [ToolCall("1", "look_around", '{"where": "here and there"}')],
    "tool_results": [ToolResult("1", "word " * 20)],
    "thoughts": [Thought("anthropic", {"signature": "x" * 100})],
}


def test_the_quick_count_looks_at_all_that_an_utterance_may_hold() -> None:
    assert {each.name for each in fields(Utterance)} == {"role", "content", *_MORE_THAN_TEXT}
    for name, parts in _MORE_THAN_TEXT.items():
        said = Utterance(Role.ASSISTANT, "said", **{name: parts})
        assert said.is_more_than_text
        assert most_tokens_of([said]) >= tokens_of(said) > tokens_of(Utterance(said.role, "said"))


def test_history_has_the_room_that_the_question_leaves() -> None:
    old, new = Utterance(Role.USER, "old " * 10), Utterance(Role.USER, "new " * 10)
    asked = Utterance(Role.USER, "word " * 30)
    room = tokens_of(asked) + tokens_of(new)
    for more, kept in ((-1, [asked]), (0, [new, asked]), (tokens_of(old), [old, new, asked])):
        assert list(fitted([old, new, asked], Window(room + more, 10_000)).utterances) == kept
    # What is sent along takes of the same room.
    assert list(fitted([new, asked], Window(room + 5, 10_000), beside=5).utterances) == [new, asked]
    assert list(fitted([new, asked], Window(room + 5, 10_000), beside=6).utterances) == [asked]


def test_all_that_an_utterance_holds_counts() -> None:
    call = ToolCall("1", "look_around", '{"where": "here and there"}')
    result = ToolResult("1", "word " * 20)
    thought = Thought("anthropic", {"type": "thinking", "signature": "x" * 1_000})
    bare = tokens_of(Utterance(Role.ASSISTANT, "said"))

    def more(**parts: Any) -> int:
        return tokens_of(Utterance(Role.ASSISTANT, "said", **parts)) - bare

    called = count_tokens(call.name) + count_tokens(call.arguments)
    assert more(tool_calls=[call]) >= called > 10
    assert more(tool_calls=[call, call]) == 2 * more(tool_calls=[call])
    assert more(tool_results=[result]) >= count_tokens(result.content)
    assert more(tool_results=[result, result]) == 2 * more(tool_results=[result])
    # A signature is no text: vendors count the thought behind it, or nothing.
    assert 500 <= more(thoughts=[thought]) <= 550
    assert tokens_of_tool(Tool("look_around")) > tokens_of_tool(Tool("look"))
    image = ImagePart("image/png", b"x")
    assert more(parts=[TextPart("said"), image, image]) == 2 * more(parts=[TextPart("said"), image])


def test_a_question_that_does_not_fit_alone_is_refused_with_the_numbers() -> None:
    asked = Utterance(Role.USER, "word " * 100)
    with pytest.raises(QuestionTooLong) as caught:
        fitted([asked], Window(100, 1_000), beside=10)
    assert caught.value.facts == {"tokens": 118, "most_tokens": 100}


def test_a_long_history_is_counted_in_pieces_and_ends_where_it_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = [
        Utterance(role, " ".join(f"{word}{n}" for n in range(1_000) for word in WORDS))
        for _ in range(20)
        for role in (Role.USER, Role.ASSISTANT)
    ]
    each, asked = tokens_of(said[0]), Utterance(Role.USER, "And now?")
    looked_at = 0

    def counted(text: str) -> int:
        nonlocal looked_at
        looked_at += len(text)
        return count_tokens(text)

    monkeypatch.setattr("services.chat.domain.token_count.count_tokens", counted)
    # Room for ten and a half exchanges.
    kept = fitted([*said, asked], Window(10**9, 21 * each))
    assert len(kept.utterances) - 1 in (18, 20, 22)
    assert looked_at < 200_000 < sum(len(one.content) for one in kept.utterances)


def test_nobody_is_refused_by_what_was_only_looked_at_here_and_there() -> None:
    # Where it is looked at there are signs, which count most; between there are words.
    length, stride = 400_000, (400_000 - 128) // 15
    letters = ["x"] * length
    for at in range(0, length, stride):
        letters[at : at + 128] = "." * 128
    asked = Utterance(Role.USER, "".join(letters[:length]))
    exact = tokens_of(asked)
    assert about_tokens(asked.content) > 3 * exact
    assert fitted([asked], Window(exact, exact)).left_out == 0
    beside = about_tokens(asked.content)
    assert fitted([asked], Window(exact + beside, exact), beside=beside).left_out == 0
    with pytest.raises(QuestionTooLong) as caught:
        fitted([asked], Window(exact - 1, exact))
    assert caught.value.facts["tokens"] == exact


def test_results_need_the_calls_that_they_answer_however_long_those_are() -> None:
    chain = [
        Utterance(Role.USER, "word " * 50),
        Utterance(Role.ASSISTANT, "", tool_calls=[ToolCall("1", "f", "{}")]),
        Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "word " * 50)]),
    ]
    before = [Utterance(Role.USER, "earlier"), Utterance(Role.ASSISTANT, "said")]
    room = sum(map(tokens_of, chain))
    assert list(fitted([*before, *chain], Window(room, 10)).utterances) == chain
    with pytest.raises(QuestionTooLong):
        fitted(chain, Window(room - 1, 1_000))


def test_the_window_is_the_smaller_of_models_and_tiers_without_the_answers_room() -> None:
    def of(model: int, tier: int) -> int:
        window = window_of(
            model_context=model, tier_context=tier, max_output_tokens=1_000, history_tokens=9
        )
        return window.prompt_tokens

    assert of(128_000, 16_000) == of(16_000, 128_000) == of(16_000, 0) == 14_500
    assert of(1_000, 1_000) == 0


def test_what_a_model_cannot_see_becomes_a_note() -> None:
    image = ImagePart("image/png", b"x")
    seen = Utterance(Role.USER, "look", parts=(image, TextPart("look")))
    (noted,) = without_images([seen])
    assert (noted.content, noted.images) == (f"{IMAGE_NOTE}\nlook", [])


def test_without_tools_only_what_was_said_is_left() -> None:
    said = [
        Utterance(Role.USER, "do it"),
        Utterance(
            Role.ASSISTANT,
            "",
            tool_calls=[ToolCall("1", "f", "{}")],
            thoughts=[Thought("anthropic", {})],
        ),
        Utterance(Role.TOOL, "", tool_results=[ToolResult("1", "done")]),
        Utterance(Role.ASSISTANT, "It is done.", thoughts=[Thought("anthropic", {})]),
    ]
    # Thoughts belong to the calls that they led to: vendors refuse them without.
    assert without_tools(said) == [said[0], Utterance(Role.ASSISTANT, "It is done.")]


@given(st.text(max_size=300))
def test_the_count_lies_between_its_bounds(text: str) -> None:
    counted, size = count_tokens(text), len(text.encode())
    assert counted <= most_tokens(text) == size
    assert size <= counted * MOST_BYTES_PER_TOKEN + 1
    assert counted >= counted_by_simulator(text)


def test_a_tools_description_counts_with_its_schema() -> None:
    plain = tokens_of_tool(Tool("look"))
    schema = {"title": "word " * 100}
    said = count_tokens(orjson.dumps(schema).decode())
    assert tokens_of_tool(Tool("look", parameters=schema)) == plain + said
    assert tokens_of_tool(Tool("look", "word")) == plain + 1


# The rule as a pattern: what it finds is a token each, beside what is beyond ASCII.
RULE = re.compile(
    r"[A-Z](?:[a-z]{2,3})?|[a-z]{1,4}|[0-9]|[!-/:-@\[-`{-~]"
    r"| (?=[0-9])| {2,5}|\t{1,4}|[\n\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


@given(st.text(max_size=300) | st.text(alphabet="aAb Bc0 1\t\n.-é漢", max_size=60))
def test_the_count_is_by_the_rule(text: str) -> None:
    beyond = len(text.encode()) - len(text)
    assert count_tokens(text) == len(RULE.findall(text)) + beyond


@given(st.text(max_size=40), st.text(max_size=40))
def test_parts_never_count_less_than_the_whole(one: str, other: str) -> None:
    assert count_tokens(one) + count_tokens(other) + 1 >= count_tokens(one + other)


# What OpenAI's cl100k_base makes of it, by its guides and pattern.
KNOWN = {
    "Hello, world!": 4,
    "The quick brown fox jumps over the lazy dog.": 10,
    "antidisestablishmentarianism": 6,
    "1234567890": 4,
}


@pytest.mark.parametrize(("text", "known"), KNOWN.items())
def test_known_texts_count_rather_too_many(text: str, known: int) -> None:
    assert known <= count_tokens(text) <= 3 * known


def test_a_long_text_counts_about_what_it_does_in_full() -> None:
    rng = random.Random(7)
    prose = " ".join(rng.choices(WORDS, k=20_000))
    texts = [
        prose,
        base64.b64encode(rng.randbytes(60_000)).decode(),
        "漢字かな" * 5_000,
        "é" * 8_192,
    ]
    for text in texts:
        assert 0.9 <= about_tokens(text) / count_tokens(text) <= 1.15
    assert about_tokens("a short one") == count_tokens("a short one")


def test_dense_texts_count_densely() -> None:
    rng = random.Random(7)  # the same bytes each time
    encoded = base64.b64encode(rng.randbytes(6_000)).decode()
    digits = "".join(rng.choices(string.digits, k=1_000))
    assert 0.7 <= count_tokens(encoded) / len(encoded) <= 0.9
    assert count_tokens(rng.randbytes(3_000).hex()) / 6_000 >= 0.6
    assert count_tokens(digits) == 1_000
    assert count_tokens("漢字" * 500) == 2_000
    assert count_tokens("🙂" * 500) == 1_500
    assert count_tokens("Привет ") == 6
