"""OpenAI's Chat Completions: https://platform.openai.com/docs/api-reference/chat

Serves every host that speaks the same wire. `temperature` is never sent: the current models refuse
it or ignore it, and the user did not ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from services.chat.domain.conversation import Role
from services.chat.domain.errors import (
    ModelUnavailable,
    VendorRejectedRequest,
)
from services.chat.domain.frames import Began, Ended, FinishReason, Frame, Text
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from services.chat.providers._http import json_body
from services.chat.providers._registry import Patience, chat_providers
from services.chat.providers._sse import data_lines
from shared.clients.egress import Egress, NoUsableKey, VendorConnectionLost
from shared.identity import OnBehalfOf
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from shared.vendors.waiting import retry_after

_PATH = "/v1/chat/completions"
_DONE = b"[DONE]"
_ROLES = {Role.USER: "user", Role.ASSISTANT: "assistant", Role.SYSTEM: "developer"}
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_MONEY_CODES = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
}


@chat_providers.register("openai")
class OpenAI:
    """Translates to OpenAI's wire and back."""

    name = "openai"

    def __init__(self, egress: Egress, patience: Patience) -> None:
        self._egress = egress
        self._patience = patience

    async def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        """The answer as frames. Raises VendorRefused, VendorFailed, or the egress's refusals."""
        request = self._egress.request(
            "POST",
            self.name,
            _PATH,
            by=by,
            body=to_wire(prompt, stream=stream),
            first_byte_within=self._patience.first_byte,
        )
        try:
            async with request as response:
                if response.status != 200:
                    raise await self._refusal(response)
                frames = self._streamed(response) if stream else self._whole(response)
                async for frame in frames:
                    yield frame
        except VendorConnectionLost as error:
            raise VendorFailed(self.name, billed=error.sent) from error

    async def _streamed(self, response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
        reason: FinishReason | None = None
        usage: Usage | None = None
        began = False
        lines = data_lines(response, provider=self.name, silence=self._patience.silence)
        async for line in lines:
            if line == _DONE:
                break
            chunk = self._parsed(line)
            if not began:
                began = True
                yield Began(chunk.get("id"), chunk.get("model"))
            if chunk.get("error"):
                raise VendorFailed(self.name)
            if chunk.get("usage"):
                usage = usage_from_wire(chunk)
            # The chunk that carries the usage has no choices.
            for choice in chunk.get("choices") or ():
                text = (choice.get("delta") or {}).get("content")
                if text:
                    yield Text(text)
                if choice.get("finish_reason"):
                    reason = _FINISH.get(choice["finish_reason"], "other")
        # A cut connection can end like a whole one; only a finish reason tells them apart.
        if reason is None:
            raise VendorFailed(self.name)
        yield Ended(reason, usage)

    async def _whole(self, response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
        body = await json_body(response, provider=self.name)
        if body is None or not body.get("choices"):
            raise VendorFailed(self.name)
        choice = body["choices"][0]
        yield Began(body.get("id"), body.get("model"))
        text = (choice.get("message") or {}).get("content")
        if text:
            yield Text(text)
        reason = _FINISH.get(choice.get("finish_reason") or "", "other")
        yield Ended(reason, usage_from_wire(body) if body.get("usage") else None)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            chunk = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise VendorFailed(self.name) from error
        if not isinstance(chunk, dict):
            raise VendorFailed(self.name)
        return chunk

    async def _refusal(self, response: aiohttp.ClientResponse) -> VendorRefused | NoUsableKey:
        body = await json_body(response, provider=self.name) or {}
        error = body.get("error")
        return refusal(response.status, error if isinstance(error, dict) else {}, response.headers)


def to_wire(prompt: Prompt, *, stream: bool) -> dict[str, Any]:
    """The request body."""
    messages = [{"role": _ROLES[u.role], "content": u.content} for u in prompt.utterances]
    if prompt.system_prompt:
        messages.insert(0, {"role": _ROLES[Role.SYSTEM], "content": prompt.system_prompt})
    body: dict[str, Any] = {
        "model": prompt.choice.model,
        "messages": messages,
        "max_completion_tokens": prompt.choice.max_output_tokens,
        "safety_identifier": prompt.end_user,
    }
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def usage_from_wire(body: Mapping[str, Any]) -> Usage:
    """Token counts; every detail may be absent."""
    usage = body["usage"]
    prompt_details = usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        cache_read_tokens=prompt_details.get("cached_tokens") or 0,
        cache_write_tokens=prompt_details.get("cache_write_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        output_reasoning_tokens=completion_details.get("reasoning_tokens") or 0,
        service_tier=body.get("service_tier"),
    )


def refusal(
    status: int, error: Mapping[str, Any], headers: Mapping[str, str]
) -> VendorRefused | NoUsableKey:
    """What the vendor's refusal means, by its code first: the message may echo the key and is never
    passed on. https://platform.openai.com/docs/guides/error-codes"""
    codes = {str(error.get("code")), str(error.get("type"))}
    wait: timedelta | None = retry_after(headers)
    if status in {401, 403} and not codes & _MONEY_CODES:
        text, reason = _about_the_key(status, str(error.get("message")))
        return NoUsableKey(text, provider="openai", reason=reason)
    kind, text = _meaning(status, codes)
    keeps_wait = kind in {VendorRateLimited, VendorOverloaded}
    return kind(text, provider="openai", retry_after=wait if keeps_wait else None)


def _about_the_key(status: int, message: str) -> tuple[str, str]:
    if status == 401 and "Missing scopes" not in message:
        return "OpenAI no longer accepts your key.", "key_rejected"
    return "OpenAI does not let your key do this.", "key_restricted"


def _meaning(status: int, codes: set[str]) -> tuple[type[VendorRefused], str]:
    if codes & _MONEY_CODES:
        return VendorQuotaExhausted, "Your credit or spending limit at OpenAI is used up."
    if status == 404:
        return ModelUnavailable, "OpenAI does not serve this model to your key."
    if status == 429:
        return VendorRateLimited, "OpenAI's rate limit for your key is reached."
    if status >= 500:
        return VendorOverloaded, "OpenAI is in trouble."
    return VendorRejectedRequest, "OpenAI did not accept the request."
