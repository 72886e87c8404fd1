"""What is said: the last user message, echoed, and what it costs.

A token is a word, that is a run of characters without white space. An image counts 85 tokens and an
offered tool 10. The directives of a prompt count as part of it but are not echoed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from tests.support.simulator.options import Options
from tests.support.simulator.tools import Tool, ToolCall, sample
from tests.support.simulator.wire import dump, quoted

IMAGE_TOKENS: Final = 85
TOOL_TOKENS: Final = 10
ECHO_WORDS: Final = 2000
THOUGHT: Final = "The user said something, so I shall say it back."
REFUSED: Final = "I cannot help with that."
FOREIGN_TAIL: Final = " · naïve 漢字 🙂"
UNICODE_BREAKS: Final = " line\u2028paragraph\u2029next\u0085end"
_FILLER: Final = ("and ", "so ", "on ", "with ", "more ", "words ", "until ", "it ", "is ", "done ")
_WORD: Final = re.compile(r"\S+\s*")


def count_tokens(text: str) -> int:
    return len(text.split())


@dataclass(frozen=True, slots=True)
class Ask:
    """What every vendor's request boils down to for somebody who only echoes."""

    said: str
    input_tokens: int
    from_tool: bool = False
    cap: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    #: `auto`, `none`, `required` or the name of a tool.
    choice: str = "auto"
    wants_json: bool = False
    schema: Any = None


@dataclass(frozen=True, slots=True)
class Script:
    """A text in the pieces in which it is streamed, each also as a JSON string."""

    text: str
    pieces: tuple[str, ...]
    quoted: tuple[bytes, ...]
    tokens: int
    finish: str = "stop"
    stop_sequence: str | None = None

    def part(self, number: int, parts: int) -> "Script":
        """One of several parts into which the pieces are divided; past the last there is none."""
        start, end = (at * len(self.pieces) // parts for at in (number, number + 1))
        pieces = self.pieces[start:end]
        text = "".join(pieces)
        return Script(text, pieces, self.quoted[start:end], count_tokens(text))


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer; vendors disagree on which of them include which."""

    fresh: int
    cache_read: int
    cache_write: int
    visible: int
    reasoning: int

    @property
    def input(self) -> int:
        return self.fresh + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        return self.visible + self.reasoning

    @property
    def total(self) -> int:
        return self.input + self.output

    def canonical(self) -> dict[str, int]:
        """As the ledger shows it, whoever the vendor is."""
        return {
            "input_tokens": self.input,
            "cache_read_tokens": self.cache_read,
            "cache_write_tokens": self.cache_write,
            "output_tokens": self.output,
            "output_reasoning_tokens": self.reasoning,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What will be said, or which tools will be called instead."""

    script: Script
    calls: tuple[ToolCall, ...]
    usage: Usage
    #: `stop`, `length`, `stop_sequence`, `tool_calls`, `content_filter`, or a vendor's own word.
    finish: str
    refused: bool = False

    @property
    def thinks(self) -> bool:
        return self.usage.reasoning > 0

    def usage_after(self, chunks: int) -> dict[str, int]:
        """What an answer costs that ended after so many chunks."""
        spoken = count_tokens("".join(self.script.pieces[:chunks]))
        return {
            **self.usage.canonical(),
            "output_tokens": self.usage.reasoning + spoken,
        }


def answer(ask: Ask, options: Options) -> Answer:
    """Deterministic: the same request gets the same answer."""
    calls = _wanted_calls(ask, options)
    script = _nothing() if calls else _script_for(ask, options)
    forced = options.get("finish")
    finish = forced or ("tool_calls" if calls else script.finish)
    refused = "refuse" in options
    return Answer(script, calls, _usage(ask, options, script, calls), finish, refused)


def _usage(ask: Ask, options: Options, script: Script, calls: Sequence[ToolCall]) -> Usage:
    spoken = script.tokens + sum(1 + count_tokens(call.arguments_json) for call in calls)
    return Usage(
        fresh=options.number("input", ask.input_tokens),
        cache_read=options.number("cached"),
        cache_write=options.number("cache_write"),
        visible=options.number("output", spoken),
        reasoning=options.number("reasoning"),
    )


def _script_for(ask: Ask, options: Options) -> Script:
    text = REFUSED if "refuse" in options else _text(ask)
    if "u2028" in options:
        text += UNICODE_BREAKS
    if "split" in options and text.isascii():
        text += FOREIGN_TAIL
    # Thinking is paid from the same budget: a small cap can leave nothing to say.
    cap = None if ask.cap is None else max(0, ask.cap - options.number("reasoning"))
    return write_script(text, options.number("chunks"), cap, ask.stops)


def _text(ask: Ask) -> str:
    said = ask.said.strip()
    if ask.wants_json:
        made_up = {"echo": said} if ask.schema is None else sample(ask.schema, said)
        return dump(made_up).decode()
    if ask.from_tool:
        return f"The tool said: {said}"
    return f"You said: {said}" if said else "You said nothing."


def _nothing() -> Script:
    return Script("", (), (), 0)


@lru_cache(maxsize=512)
def write_script(text: str, chunks: int, cap: int | None, stops: tuple[str, ...]) -> Script:
    """Word by word, or in as many pieces as asked for; remembered, since load tests repeat."""
    words = _lengthened(_WORD.findall(text)[:ECHO_WORDS], chunks)
    finish, stop = "stop", _first_stop("".join(words), stops)
    if stop is not None:
        finish = "stop_sequence"
        words = _WORD.findall("".join(words).partition(stop)[0])
    if cap is not None and len(words) > cap:
        finish, stop, words = "length", None, words[:cap]
    pieces = merged(_trimmed(words), chunks)
    return Script("".join(pieces), pieces, tuple(map(quoted, pieces)), len(words), finish, stop)


def _lengthened(words: list[str], chunks: int) -> list[str]:
    if len(words) >= chunks:
        return words
    words[-1:] = [word.rstrip() + " " for word in words[-1:]]
    missing = chunks - len(words)
    return words + [_FILLER[position % len(_FILLER)] for position in range(missing)]


def _first_stop(text: str, stops: tuple[str, ...]) -> str | None:
    found = [(text.index(stop), stop) for stop in stops if stop and stop in text]
    return min(found)[1] if found else None


def _trimmed(words: list[str]) -> list[str]:
    return [*words[:-1], words[-1].rstrip()] if words else []


def merged(words: Sequence[str], chunks: int) -> tuple[str, ...]:
    """The words in at most that many pieces; 0 leaves every word alone."""
    if not chunks or chunks >= len(words):
        return tuple(words)
    bounds = [position * len(words) // chunks for position in range(chunks + 1)]
    return tuple("".join(words[start:end]) for start, end in pairwise(bounds))


def _wanted_calls(ask: Ask, options: Options) -> tuple[ToolCall, ...]:
    tool = _wanted_tool(ask, options)
    if tool is None:
        return ()
    call = ToolCall(tool.name, sample(tool.schema, ask.said.strip()))
    return (call,) * max(1, options.number("calls", 1))


def _wanted_tool(ask: Ask, options: Options) -> Tool | None:
    """A call happens when the request demands it or the prompt names the tool."""
    if not ask.tools or ask.choice == "none":
        return None
    by_name = {tool.name: tool for tool in ask.tools}
    if ask.choice in by_name:
        return by_name[ask.choice]
    if ask.choice == "required":
        return ask.tools[0]
    if ask.from_tool:
        return None
    if "tool" in options:
        return by_name.get(options["tool"], ask.tools[0])
    return next((tool for tool in ask.tools if tool.name in ask.said), None)
