"""Bodies of Anthropic's Messages: https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from services.chat.api.dropin_call import (
    Body,
    Size,
    VendorCall,
    features_of,
    hash_of,
    items,
    one_of,
    own_tools,
    refuse,
)
from services.chat.api.dropin_door import AsItCame, named_event
from services.chat.api.fields import Fields, json_object
from services.chat.domain.errors import ThreadNotOffered, UnsupportedParameter
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.turn import Surface
from shared.vendors.anthropic import API_VERSION, OLD_API_VERSION

MESSAGES_PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"

_VERSIONS = frozenset({API_VERSION, OLD_API_VERSION})
# Betas that only change how a message is asked for and answered. Those for files, skills, remote
# servers, other models, tools that run at Anthropic and what is cached for an hour are left out:
# nothing of it is offered.
_BETAS = frozenset(
    {
        *("prompt-caching-2024-07-31", "pdfs-2024-09-25", "token-counting-2024-11-01"),
        "token-efficient-tools-2025-02-19",
        *("output-128k-2025-02-19", "output-300k-2026-03-24", "context-1m-2025-08-07"),
        *("interleaved-thinking-2025-05-14", "fine-grained-tool-streaming-2025-05-14"),
        *("dev-full-thinking-2025-05-14", "thinking-token-count-2026-05-13"),
        *("thinking-display-updates-2026-08-18", "thinking-binding-controls-2026-08-01"),
        *("context-management-2025-06-27", "model-context-window-exceeded-2025-08-26"),
        *("compact-2026-01-12", "compact-2026-09-04", "structured-outputs-2025-11-13"),
        *("task-budgets-2026-03-13", "fast-mode-2026-02-01", "inline-tools-2026-09-15"),
        *("computer-use-2024-10-22", "computer-use-2025-01-24", "computer-use-2025-11-24"),
        *("mid-conversation-tool-changes-2026-07-01", "mid-conversation-output-config-2026-07-01"),
        "mid-conversation-system-clear-at-2026-08-21",
    }
)
# Tools of Anthropic's making that run at the client.
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "browser_toolset_", "memory_")
_NOT_OFFERED = ("container", "mcp_servers", "fallbacks", "fallback_credit_token")
_SPEEDS = ("fast",)  # with a price of its own
_OF_TOOLS = frozenset({"input", "input_schema"})
_SMALLEST_BUDGET = 1_024


def read_message(body: bytes, headers: Mapping[str, str]) -> VendorCall:
    """A message. Raises Invalid."""
    fields = json_object(body)
    whole = dict(fields.whole)
    _refuse_what_is_not_offered(whole)
    _refuse_long_caching(body, whole)
    has_tools = own_tools(_tools_in(fields), _is_own)
    thinking = fields.object("thinking")
    size = _size_of(whole)
    passed = passed_headers(headers)
    return VendorCall(
        surface=Surface.ANTHROPIC,
        path=MESSAGES_PATH,
        model=fields.needed_text("model"),
        body=whole,
        govern=_govern,
        framing=partial(AsItCame, partial(named_event, "error")),
        request_hash=hash_of(MESSAGES_PATH.encode(), repr(sorted(passed.items())).encode(), body),
        input_estimate=size.estimate,
        is_open=size.is_open,
        service_tier=one_of(whole.get("speed"), _SPEEDS),
        streamed=fields.flag("stream") or False,
        max_output_tokens=fields.count("max_tokens", 0),  # 0: only the cache is written
        features=features_of(size, has_tools, reasons=_reasons(thinking, whole)),
        headers=passed,
    )


def read_count(body: bytes, headers: Mapping[str, str]) -> VendorCall:
    """A question for how many tokens a message has. Raises Invalid."""
    fields = json_object(body)
    whole = dict(fields.whole)
    _refuse_what_is_not_offered(whole)
    return VendorCall(
        surface=Surface.ANTHROPIC,
        path=COUNT_PATH,
        model=fields.needed_text("model"),
        body=whole,
        govern=_govern_model,
        framing=partial(AsItCame, partial(named_event, "error")),
        request_hash=b"",
        is_paid=False,
        headers=passed_headers(headers),
    )


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The vendor's own headers of a request, as far as they are offered here."""
    version = headers.get("anthropic-version", API_VERSION)
    if version not in _VERSIONS:
        raise UnsupportedParameter("anthropic-version")
    passed = {"anthropic-version": version}
    wished = (beta.strip() for beta in headers.get("anthropic-beta", "").split(","))
    if betas := [beta for beta in wished if beta in _BETAS]:
        passed["anthropic-beta"] = ",".join(betas)
    return passed


def _govern(body: Body, choice: ModelChoice, end_user: str) -> None:
    _govern_model(body, choice, end_user)
    body["max_tokens"] = choice.max_output_tokens
    body["metadata"] = {"user_id": end_user}
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if isinstance(budget, int) and budget >= choice.max_output_tokens > _SMALLEST_BUDGET:
        # It counts towards the cap, which may have been lowered beneath it.
        lowered = max(_SMALLEST_BUDGET, choice.max_output_tokens // 2)
        body["thinking"] = {**body["thinking"], "budget_tokens": lowered}


def _govern_model(body: Body, choice: ModelChoice, _end_user: str) -> None:
    body["model"] = choice.model


def _refuse_what_is_not_offered(whole: Body) -> None:
    """Raises UnsupportedParameter, and ThreadNotOffered for a thread alone."""
    refuse(whole, *_NOT_OFFERED)
    if whole.get("inference_geo") not in (None, "global"):
        raise UnsupportedParameter("inference_geo")
    if whole.get("thread") is not None:
        raise ThreadNotOffered


def _refuse_long_caching(body: bytes, whole: Body) -> None:
    """What is cached for an hour is written at another price, which nothing here tells apart.
    Raises UnsupportedParameter."""
    # Most bodies need not be looked through: it stands in none without these bytes.
    if (b'"1h"' in body or b"\\u" in body) and _caches_long(whole):
        raise UnsupportedParameter("cache_control.ttl")


def _caches_long(value: Any) -> bool:
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            control = value.get("cache_control")
            if isinstance(control, dict) and control.get("ttl") == "1h":
                return True
            # What a tool takes is the client's own.
            todo.extend(one for name, one in value.items() if name not in _OF_TOOLS)
        elif isinstance(value, list):
            todo.extend(value)
    return False


def _is_own(tool: Fields) -> bool:
    kind = tool.text("type")
    return kind in (None, "custom") or kind.startswith(_CLIENT_TOOLS)


def _tools_in(fields: Fields) -> Iterator[Fields]:
    """Also those that messages define on their way, and those of a part that was summed up."""
    yield from fields.objects("tools")
    for place, block in _blocks(fields.whole):
        for change in (block, *items(block.get("tool_changes"))):
            tool = change.get("tool")
            if isinstance(tool, dict) and "definition" in tool:
                yield Fields(tool, f"{place}.tool.").needed_object("definition")


def _reasons(thinking: Fields | None, body: Body) -> bool:
    """Whether more thinking is asked for than the model does by itself."""
    if thinking is not None and thinking.raw("type") != "disabled":
        return True
    # A message may set it for what follows.
    configs = (holder.get("output_config") for holder in (body, *items(body.get("messages"))))
    return any(isinstance(config, dict) and config.get("effort") for config in configs)


def _size_of(body: Mapping[str, Any]) -> Size:
    size = Size()
    size.add_text(body.get("system"))
    for message in items(body.get("messages")):
        size.messages += 1
        size.add_text(message)
    for place, block in _blocks(body):
        _measure(block, size, place)
    size.add_schema(body.get("tools"))
    size.add_schema(body.get("output_config"))
    return size


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Body]]:
    for number, message in enumerate(items(body.get("messages"))):
        for block in items(message.get("content")):
            yield f"messages.{number}.content", block


def _measure(block: Body, size: Size, place: str) -> None:
    """What a block holds beside text, and those within it: of a tool's result, of a document."""
    todo = [block]
    while todo:
        block = todo.pop()
        kind, source = block.get("type"), block.get("source")
        source = source if isinstance(source, dict) else {}
        if kind == "container_upload" or source.get("type") == "file":
            raise UnsupportedParameter(place)
        encoded = source.get("data") if source.get("type") == "base64" else None
        if kind == "image":
            size.add_image(encoded)
        elif kind == "document" and source.get("type") == "url":
            size.add_fetched_file()
        elif kind == "document":
            size.add_file(encoded, source.get("media_type"))
        for held in (block.get("content"), source.get("content")):
            todo.extend(items([held] if isinstance(held, dict) else held))
