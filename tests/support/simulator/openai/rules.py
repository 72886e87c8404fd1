"""What OpenAI refuses in a request before any model sees it."""

from typing import Any, Final

from tests.support.simulator.names import names
from tests.support.simulator.openai.errors import error, unsupported
from tests.support.simulator.openai.models import Model, find_model
from tests.support.simulator.refusals import Refused

Json = dict[str, Any]

_EFFORTS: Final = frozenset({"minimal", "low", "medium", "high", "xhigh", "max"})
_CHAT_FIELDS: Final = names(
    """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
    max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort
    response_format safety_identifier seed service_tier stop store stream stream_options temperature
    tool_choice tools top_logprobs top_p user verbosity web_search_options"""
)
_RESPONSES_FIELDS: Final = names(
    """access_programs background background_options context_management conversation image include
    input instructions max_output_tokens max_tool_calls metadata model moderation
    parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options
    temperature text tool_choice tools top_logprobs top_p truncation user"""
)
_ROLES: Final = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
_NAMED_NO_STOP: Final = frozenset({"o3", "o4-mini"})


def check_chat(body: Json) -> Model:
    _known_fields(body, _CHAT_FIELDS)
    if "model" not in body:
        raise Refused(error(400, "you must provide a model parameter"))
    model = _chat_model(body)
    effort = body.get("reasoning_effort")
    _messages(body.get("messages"))
    _effort(model, effort, "reasoning_effort")
    _sampling(model, body, effort)
    if model.reasons and body.get("max_tokens") is not None:
        raise Refused(unsupported("max_tokens", "Use 'max_completion_tokens' instead."))
    if model.id in _NAMED_NO_STOP and body.get("stop") is not None:
        raise Refused(unsupported("stop"))
    if body.get("tools") and not model.takes_tools_in_chat(effort):
        raise Refused(unsupported("tools", "Use /v1/responses for tools with this model."))
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(error(400, message, param="stream_options"))
    return model


def check_responses(body: Json) -> Model:
    _known_fields(body, _RESPONSES_FIELDS)
    if not body.get("model"):
        raise Refused(_missing("model"))
    model = _chat_model(body)
    if not body.get("input"):
        raise Refused(_missing("input"))
    effort = (body.get("reasoning") or {}).get("effort")
    _effort(model, effort, "reasoning.effort")
    _sampling(model, body, effort)
    _items(body.get("input"))
    if not model.reasons and "reasoning.encrypted_content" in (body.get("include") or ()):
        message = "Encrypted content is not supported with this model."
        raise Refused(error(400, message, param="include"))
    if body.get("previous_response_id") is not None:
        message = "Previous response not found: the simulator stores none."
        raise Refused(error(400, message, param="previous_response_id"))
    return model


def _items(given: object) -> None:
    """The simulator stores nothing, as the vendor under `store: false`."""
    for item in given if isinstance(given, list) else ():
        kind = item.get("type") if isinstance(item, dict) else None
        is_named = kind == "item_reference" or (kind == "reasoning" and "id" in item)
        if is_named and not item.get("encrypted_content"):
            message = (
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` "
                "is set to false. Try again with `store` set to true, or remove this item from "
                "your input."
            )
            raise Refused(error(404, message, param="input"))


def check_image(url: object, param: str) -> None:
    if not str(url).startswith(("https://", "data:image/")):
        message = "Invalid image URL: expected an https URL or a base64-encoded data URL."
        raise Refused(error(400, message, code="invalid_image_url", param=param))


def _known_fields(body: Json, known: frozenset[str]) -> None:
    for name in body:
        if name not in known:
            message = f"Unknown parameter: '{name}'."
            raise Refused(error(400, message, code="unknown_parameter", param=name))


def _missing(param: str) -> Any:
    message = f"Missing required parameter: '{param}'."
    return error(400, message, code="missing_required_parameter", param=param)


def _chat_model(body: Json) -> Model:
    model = find_model(body["model"])
    if not model.chat:
        raise Refused(error(404, "This is not a chat model.", param="model"))
    return model


def _messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise Refused(_missing("messages"))
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            param = f"messages[{position}].role"
            raise Refused(error(400, "Invalid value for a role.", "invalid_value", param=param))


def _effort(model: Model, effort: object, param: str) -> None:
    if effort is None or effort in _EFFORTS or (effort == "none" and model.takes_no_effort):
        return
    message = f"Unsupported value: '{param}' does not support '{effort}' with this model."
    raise Refused(error(400, message, code="unsupported_value", param=param))


def _sampling(model: Model, body: Json, effort: str | None) -> None:
    """GPT-6 refuses the parameter itself, older reasoning models any value but the default."""
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is None or model.takes_temperature(effort):
            continue
        if model.id.startswith("gpt-6"):
            raise Refused(unsupported(name))
        if value != 1:
            message = f"Unsupported value: '{name}' does not support {value} with this model."
            raise Refused(error(400, message, code="unsupported_value", param=name))
