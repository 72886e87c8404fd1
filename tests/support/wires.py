"""For tests of chat's wires: a prompt about nothing, and what a reader makes of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from services.chat.domain.content import Role, Utterance
from services.chat.domain.frames import Ended, Frame, Text, Thinking, ToolCallPiece
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Prompt
from services.chat.providers._wire import Reader
from shared.errors import ExpectedFailure

MODELS = {
    "openai": "gpt-6-luna",
    "anthropic": "claude-sonnet-5-5",
    "gemini": "gemini-3.8-flash",
}


def a_prompt(provider: str, *said: Utterance | str, model: str = "", **parts: Any) -> Prompt:
    """A prompt to the vendor's usual model; texts are the user's."""
    utterances = [Utterance(Role.USER, u) if isinstance(u, str) else u for u in said or ("hello",)]
    choice = ModelChoice(provider, model or MODELS.get(provider, "some-model"), 1000)
    return Prompt(choice, parts.pop("system_prompt", None), utterances, "opaque", **parts)


def read(reader: Reader, pieces: Iterable[bytes]) -> tuple[list[Frame], ExpectedFailure | None]:
    """The frames, and the failure that they end with, if they do."""
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames += reader.feed(piece)
        frames += reader.end()
    except ExpectedFailure as failure:
        return frames, failure
    return frames, None


def whole(reader: Reader, data: bytes) -> list[Frame]:
    """The frames of an answer that is as it should be."""
    frames, failure = read(reader, [data])
    assert failure is None, failure
    return frames


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes in pieces."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def told(frames: Sequence[Frame]) -> tuple[str, str, list[tuple[str | None, str]]]:
    """The text, the thinking, and the calls by name with their arguments."""
    calls: dict[int, list[Any]] = {}
    for frame in frames:
        if isinstance(frame, ToolCallPiece):
            call = calls.setdefault(frame.index, [frame.name, ""])
            call[1] += frame.arguments
    return (
        "".join(frame.text for frame in frames if isinstance(frame, Text)),
        "".join(frame.text for frame in frames if isinstance(frame, Thinking)),
        [(name, arguments) for name, arguments in calls.values()],
    )


def the_end(frames: Sequence[Frame]) -> Ended:
    """The last frame, of which there is one."""
    (ended,) = [frame for frame in frames if isinstance(frame, Ended)]
    assert frames[-1] is ended
    return ended
