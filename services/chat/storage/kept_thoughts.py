"""What a vendor wants back with a tool's result, kept for clients whose wire has no place for it.

OpenAI's Chat Completions carry neither Anthropic's thinking blocks nor Gemini's signatures. They
lie in Valkey for an hour, under the ids of the calls that they belong to; once they are lost the
vendor decides what it makes of the conversation without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.chat.domain.content import Thought, ToolCall, Utterance
from shared.ids import UserId

log = structlog.get_logger(__name__)

_KEPT_SECONDS = 3600
_LARGEST = 256 << 10
# Vendors want them back for the exchange that goes on; older ones they ignore.
_MOST_CALLS = 256
_FAILURES = (RedisError, RuntimeError, OSError, TimeoutError)


class ValkeyThoughts:
    """Thoughts and signatures by user and tool call."""

    def __init__(self, cache: Redis) -> None:
        """`cache` has hard timeouts."""
        self._cache = cache

    async def keep(
        self, user_id: UserId, calls: Sequence[ToolCall], thoughts: Sequence[Thought]
    ) -> None:
        """Nothing is kept of calls that have neither; silent while Valkey is away."""
        if not thoughts and not any(call.signature for call in calls):
            return
        pipe = self._cache.pipeline(transaction=False)
        for i, call in enumerate(calls):
            # The thoughts came before all of the calls.
            value = orjson.dumps(_to_kept(call, thoughts if i == 0 else ()))
            if len(value) <= _LARGEST:
                pipe.set(_key(user_id, call.id), value, ex=_KEPT_SECONDS)
        try:
            await pipe.execute()
        except _FAILURES as error:
            log.warning("thoughts_not_kept", reason=type(error).__name__)

    async def restored(
        self, user_id: UserId, utterances: Sequence[Utterance]
    ) -> Sequence[Utterance]:
        """The conversation, each call with what belongs to it as far as it is still known."""
        ids = [call.id for utterance in utterances for call in utterance.tool_calls][-_MOST_CALLS:]
        if not ids:
            return utterances
        try:
            values = await self._cache.mget([_key(user_id, id_) for id_ in ids])
        except _FAILURES as error:
            log.warning("thoughts_not_restored", reason=type(error).__name__)
            return utterances
        kept = {id_: orjson.loads(v) for id_, v in zip(ids, values, strict=True) if v is not None}
        return [_restored(utterance, kept) for utterance in utterances] if kept else utterances


def _to_kept(call: ToolCall, thoughts: Sequence[Thought]) -> dict[str, Any]:
    return {
        "signature": call.signature,
        "thoughts": [{"provider": t.provider, "block": t.block} for t in thoughts],
    }


def _restored(utterance: Utterance, kept: dict[str, Any]) -> Utterance:
    found = [kept.get(call.id) for call in utterance.tool_calls]
    if not any(found):
        return utterance
    calls = [
        replace(call, signature=call.signature or (known["signature"] if known else None))
        for call, known in zip(utterance.tool_calls, found, strict=True)
    ]
    thoughts = [
        Thought(thought["provider"], thought["block"])
        for known in found
        if known
        for thought in known["thoughts"]
    ]
    return replace(utterance, tool_calls=calls, thoughts=utterance.thoughts or thoughts)


def _key(user_id: UserId, call_id: str) -> str:
    digest = hashlib.sha256(call_id.encode()).hexdigest()[:32]
    return f"thoughts:{{{user_id}}}:{digest}"
