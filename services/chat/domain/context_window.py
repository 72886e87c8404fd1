"""What of a conversation the vendor gets to see, so that it never refuses one for its length.

The rule, as it can be told to a user: the newest exchanges are sent that fit; the oldest are
forgotten first. An exchange is a question with all that follows until the next question, so that
what is sent begins with the user, tools' results stay with their calls, and nothing is cut in
half. System prompt, tools and the question itself are always sent; when these alone don't fit, the
turn is refused before anything is charged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import orjson

from services.chat.domain.content import Role, TextPart, Utterance
from services.chat.domain.errors import QuestionTooLong
from services.chat.domain.token_count import (
    about_tokens_of,
    count_tokens,
    most_tokens,
    most_tokens_of,
    tokens_of,
    tokens_of_tool,
)
from services.chat.domain.turn import Prompt
from shared.values import dataclass, replace

# What vendors add on their own: the wire's frame, a preamble for tools, and our miscounting.
RESERVE_TOKENS = 500

# Up to how many bytes of a conversation are all counted.
_COUNTED_WHOLE = 200_000

Exchange = Sequence[Utterance]
Count = Callable[[Utterance], int]


@dataclass(frozen=True, slots=True)
class Window:
    """How much a turn may carry: `prompt_tokens` of all that is sent, `history_tokens` of what was
    said before the question."""

    prompt_tokens: int
    history_tokens: int


def window_of(
    *, model_context: int, tier_context: int, max_output_tokens: int, history_tokens: int
) -> Window:
    """The context, without the answer's room."""
    context = context_of(model_context, tier_context)
    return Window(max(0, context - max_output_tokens - RESERVE_TOKENS), history_tokens)


def context_of(model_context: int, tier_context: int) -> int:
    """The smaller of what the model reads and what the tier grants; a tier that says nothing of
    context (0) grants the model's."""
    return min(model_context, tier_context or model_context)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent, and how many messages of before were left out."""

    utterances: Sequence[Utterance]
    left_out: int


def fitted(utterances: Sequence[Utterance], window: Window, *, beside: int = 0) -> Fitted:
    """The newest exchanges that fit, the last one always. `beside`: tokens of what is sent along,
    such as the system prompt and tools.

    Raises QuestionTooLong when the last exchange does not fit.
    """
    most, size = window.prompt_tokens - beside, most_tokens_of(utterances)
    if size <= min(most, window.history_tokens):
        # As nearly always, and nothing has to be counted.
        sent = list(utterances[_first_question(utterances) :])
    else:
        *earlier, last = exchanges(utterances)
        count = _counting(size)
        needed = _needed(last, beside, window, count)
        kept = _newest(earlier, min(most - needed, window.history_tokens), count)
        sent = list(chain(*kept, last))
    return Fitted(sent, len(utterances) - len(sent))


def require_room(prompt: Prompt, window: Window) -> None:
    """That a prompt fits of which nothing may be left out, counted as above. Raises
    QuestionTooLong."""
    size = most_tokens_of(prompt.utterances)
    if size + tokens_beside(prompt, most_tokens) > window.prompt_tokens:
        _needed(prompt.utterances, tokens_beside(prompt), window, _counting(size))


def tokens_beside(prompt: Prompt, count: Callable[[str], int] = count_tokens) -> int:
    """Of what is sent along with what is said."""
    tokens = sum(tokens_of_tool(tool, count) for tool in prompt.tools)
    if prompt.system_prompt:
        tokens += count(prompt.system_prompt)
    if prompt.answer_format and prompt.answer_format.schema:
        tokens += count(orjson.dumps(prompt.answer_format.schema).decode())
    return tokens


def _counting(size: int) -> Count:
    """How to count so much, which other users wait for: a megabyte takes some 30 ms."""
    return tokens_of if size <= _COUNTED_WHOLE else about_tokens_of


def _needed(last: Exchange, beside: int, window: Window, count: Count) -> int:
    needed = _tokens(last, count)
    # Nothing is refused by what was only looked at here and there.
    if count is not tokens_of and window.prompt_tokens < needed + beside:
        needed = _tokens(last, tokens_of)
    if needed + beside > window.prompt_tokens:
        raise QuestionTooLong(needed + beside, window.prompt_tokens)
    return needed


def halved(prompt: Prompt) -> Prompt | None:
    """With at most half of its history, the newer one, for a vendor that found it too long; None
    when there is only the question."""
    if not prompt.utterances:
        return None
    *earlier, last = exchanges(prompt.utterances)
    if not earlier:
        return None
    count = _counting(most_tokens_of(prompt.utterances))
    kept = _newest(earlier, sum([_tokens(exchange, count) for exchange in earlier]) // 2, count)
    return replace(
        prompt, utterances=[utterance for exchange in [*kept, last] for utterance in exchange]
    )


def exchanges(utterances: Sequence[Utterance]) -> list[Exchange]:
    """Questions, each with what follows until the next one. What comes before the first question
    is none, and left out; the last utterance never is."""
    found: list[list[Utterance]] = []
    user, exchange = Role.USER, None
    for utterance in utterances:
        if utterance.role is user:
            exchange = [utterance]
            found.append(exchange)
        elif exchange is not None:
            exchange.append(utterance)
    return list(found) or [list(utterances)]


def _first_question(utterances: Sequence[Utterance]) -> int:
    """The place of the first of the `exchanges`; 0 where there is no question."""
    user = Role.USER
    return next((at for at, one in enumerate(utterances) if one.role is user), 0)


def coherent(history: Sequence[Utterance]) -> list[Utterance]:
    """The history without calls that nobody answered and results that nobody asked for: vendors
    refuse them. An answer that was nothing but such calls is left out."""
    tool = Role.TOOL
    for one in history:
        if one.tool_calls or one.role is tool:
            break
    else:
        return list(history)
    return [one for pair in _with_next(history) for one in _coherent(*pair)]


def without_images(utterances: Sequence[Utterance]) -> list[Utterance]:
    """A note in place of each image, for a model that can't see them or a tier without them."""
    return [_noted(one) if one.parts and one.images else one for one in utterances]


def without_tools(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Without calls and results, for a model or a tier that knows none."""
    texts = [
        replace(one, tool_calls=(), thoughts=()) if one.tool_calls or one.thoughts else one
        for one in utterances
    ]
    return [one for one in texts if one.role is not Role.TOOL and (one.content or one.parts)]


IMAGE_NOTE = "[image]"


def _noted(utterance: Utterance) -> Utterance:
    texts = [p.text if isinstance(p, TextPart) else IMAGE_NOTE for p in utterance.ordered]
    return replace(utterance, content="\n".join(texts), parts=())


def _newest(earlier: Sequence[Exchange], room: int, count: Count) -> list[Exchange]:
    kept: list[Exchange] = []
    for exchange in reversed(earlier):
        room -= _tokens(exchange, count)
        if room < 0:
            break
        kept.append(exchange)
    return kept[::-1]


def _tokens(exchange: Exchange, count: Count) -> int:
    return sum([count(utterance) for utterance in exchange])


def _with_next(
    history: Sequence[Utterance],
) -> Iterator[tuple[Utterance | None, Utterance, Utterance | None]]:
    for index, utterance in enumerate(history):
        before = history[index - 1] if index else None
        after = history[index + 1] if index + 1 < len(history) else None
        yield before, utterance, after


def _coherent(
    before: Utterance | None, utterance: Utterance, after: Utterance | None
) -> Iterator[Utterance]:
    if utterance.tool_calls and not (after and answers(after, utterance)):
        utterance = replace(utterance, tool_calls=(), thoughts=())
        if not utterance.content:
            return
    elif utterance.role is Role.TOOL and not (before and answers(utterance, before)):
        return
    yield utterance


def answers(results: Utterance, calls: Utterance) -> bool:
    """Whether these are the results of those calls: each call's, once, and no others."""
    called = sorted(call.id for call in calls.tool_calls)
    return bool(called) and called == sorted(result.call_id for result in results.tool_results)
