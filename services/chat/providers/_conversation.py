"""What the wires share that know two speakers only, who take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from services.chat.domain.content import Role, ToolCall, Utterance
from services.chat.domain.turn import Prompt
from shared.values import dataclass

# A conversation that ends with the assistant gets this: vendors refuse, with most models, to have
# the beginning of an answer dictated.
CONTINUE = "Continue."

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """All that one side says before the other one speaks."""

    by_assistant: bool
    blocks: list[Block]


def in_turns(
    utterances: Sequence[Utterance], blocks_of: Callable[[Utterance], list[Block]]
) -> list[Turn]:
    """The conversation with the speakers alternating, the last one being the user. Utterances
    without content are left out, and the system's have a place of their own."""
    turns: list[Turn] = []
    for utterance in utterances:
        if utterance.role is not Role.SYSTEM and (blocks := blocks_of(utterance)):
            _add(turns, utterance.role is Role.ASSISTANT, blocks)
    if turns and turns[-1].by_assistant:
        _add(turns, False, blocks_of(Utterance(Role.USER, CONTINUE)))
    return turns


def _add(turns: list[Turn], by_assistant: bool, blocks: list[Block]) -> None:
    if turns and turns[-1].by_assistant is by_assistant:
        turns[-1].blocks.extend(blocks)
    else:
        turns.append(Turn(by_assistant, blocks))


def system_text(prompt: Prompt, *more: str) -> str:
    """All that the system says, which these wires keep apart from the conversation."""
    return "\n\n".join(filter(None, [*_system_parts(prompt), *more]))


def _system_parts(prompt: Prompt) -> Iterator[str]:
    yield prompt.system_prompt or ""
    for utterance in prompt.utterances:
        if utterance.role is Role.SYSTEM:
            yield utterance.content


def arguments_of(call: ToolCall) -> Mapping[str, Any]:
    """The call's arguments, which these wires want as an object. What a model wrote that is none
    is shown to it as it is, so that it can see its mistake."""
    try:
        parsed = orjson.loads(call.arguments or "{}")
        # What nests very deeply can be read but not written, least of all within a request.
        orjson.dumps([[[[[[[[parsed]]]]]]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": call.arguments}
