"""What Anthropic refuses in a request before any model sees it."""

from typing import Any, Final

from tests.support.simulator.anthropic.errors import error, extra_input, missing
from tests.support.simulator.anthropic.models import Model, find_model
from tests.support.simulator.names import names
from tests.support.simulator.refusals import Refused

Json = dict[str, Any]

_COMMON: Final = names(
    """cache_control inference_geo messages model output_config speed system thinking tool_choice
    tools"""
)
_FIELDS: Final = _COMMON | names(
    """container diagnostics max_tokens metadata service_tier stop_sequences stream temperature
    top_k top_p"""
)
_BY_BETA: Final = {
    "context-management-2025-06-27": "context_management",
    "structured-outputs-2025-11-13": "output_format",
}
_SAMPLING: Final = {"temperature": 1, "top_p": 1, "top_k": None}
_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_THINKING: Final = frozenset({"adaptive", "disabled", "enabled", "between_tools"})
_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max", None})
_SMALLEST_BUDGET: Final = 1024

SIGNATURE: Final = "c2ltdWxhdGVk"
THOUGHTFUL: Final = "toolu_thought_"
"""How the ids of calls begin that were made in a turn with thinking."""


def check_message(body: Json, *, new_version: bool, betas: frozenset[str]) -> Model:
    _known_fields(body, _FIELDS, betas)
    for name in ("model", "max_tokens", "messages"):
        if body.get(name) is None:
            raise Refused(missing(name))
    model = find_model(body["model"])
    _cap(model, body)
    _sampling(model, body, new_version=new_version)
    _thinking(model, body)
    _messages(model, body["messages"], new_version=new_version)
    return model


def check_count(body: Json, *, new_version: bool, betas: frozenset[str]) -> Model:
    _known_fields(body, _COMMON, betas)
    for name in ("model", "messages"):
        if body.get(name) is None:
            raise Refused(missing(name))
    model = find_model(body["model"])
    _messages(model, body["messages"], new_version=new_version)
    return model


def _bad(message: str) -> Refused:
    return Refused(error(400, message))


def _known_fields(body: Json, known: frozenset[str], betas: frozenset[str]) -> None:
    of_betas = {field for beta, field in _BY_BETA.items() if beta in betas}
    for name in body:
        if name not in known | of_betas:
            raise Refused(extra_input(name))


def _cap(model: Model, body: Json) -> None:
    cap = body["max_tokens"]
    if not isinstance(cap, int) or cap < 0:
        raise _bad("max_tokens: Input should be greater than or equal to 0")
    if cap == 0 and body.get("stream"):
        raise _bad("max_tokens: 0 is not supported with `stream`")
    if cap > model.max_tokens:
        raise _bad(f"max_tokens: {cap} > {model.max_tokens}, the maximum for {model.id}")


def _sampling(model: Model, body: Json, *, new_version: bool) -> None:
    for name, default in _SAMPLING.items():
        if name not in body:
            continue
        if new_version:
            raise Refused(extra_input(name))
        if not model.takes_temperature and body[name] != default:
            raise _bad(f"`{name}` is not supported for this model")


def _thinking(model: Model, body: Json) -> None:
    thinking = body.get("thinking") or {"type": "adaptive"}
    kind = thinking.get("type")
    if kind not in _THINKING:
        raise _bad("thinking.type: Input should be adaptive, disabled, enabled or between_tools")
    if kind == "disabled" and model.always_thinks:
        raise _bad("thinking.type: this model always thinks")
    budget = thinking.get("budget_tokens")
    if kind == "enabled" and (not isinstance(budget, int) or budget < _SMALLEST_BUDGET):
        raise _bad(f"thinking.enabled.budget_tokens: should be at least {_SMALLEST_BUDGET}")
    if kind == "enabled" and budget >= body["max_tokens"]:
        raise _bad("`max_tokens` must be greater than `thinking.budget_tokens`")
    if (body.get("output_config") or {}).get("effort") not in _EFFORTS:
        raise _bad("output_config.effort: unknown level")


def _messages(model: Model, messages: object, *, new_version: bool) -> None:
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: at least one message is required")
    for position, message in enumerate(messages):
        _message(message, f"messages.{position}", new_version=new_version)
    if messages[-1]["role"] == "assistant" and not model.takes_prefill:
        raise _bad("This model does not support prefill: the last message must be a user message.")


def _message(message: Any, place: str, *, new_version: bool) -> None:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
        raise _bad(f"{place}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if isinstance(content, str):
        if not content.strip():
            raise _bad(f"{place}: text content blocks must be non-empty")
        return
    if not isinstance(content, list) or not content:
        raise _bad(f"{place}.content: Field required")
    for position, block in enumerate(content):
        _block(block, message["role"], f"{place}.content.{position}", new_version=new_version)
    _thoughts(content, place)


def _thoughts(content: list[Json], place: str) -> None:
    """What was thought before a call has to come back with it, unchanged."""
    calls = [block for block in content if block.get("type") == "tool_use"]
    thinking = [block for block in content if block.get("type") == "thinking"]
    if any(block.get("signature") != SIGNATURE for block in thinking):
        raise _bad(f"{place}: `signature` of the thinking block is not valid")
    if any(str(call.get("id")).startswith(THOUGHTFUL) for call in calls) and (
        content[0].get("type") not in ("thinking", "redacted_thinking")
    ):
        raise _bad(f"{place}.content.0.type: Expected `thinking`, but found another block")


def _block(block: Json, role: str, place: str, *, new_version: bool) -> None:
    kind = block.get("type")
    if kind == "image":
        _image(block.get("source") or {}, place)
    if new_version and kind == "document" and role == "assistant":
        raise _bad(f"{place}: document blocks are not permitted in assistant messages")
    if new_version and kind == "text" and role == "user" and block.get("citations"):
        raise Refused(extra_input(f"{place}.text.citations"))


def _image(source: Json, place: str) -> None:
    kind = source.get("type")
    if kind not in ("base64", "url", "file"):
        raise _bad(f"{place}.image.source: unknown type")
    if kind == "base64" and source.get("media_type") not in _IMAGES:
        raise _bad(f"{place}.image.source.base64.media_type: unsupported")
