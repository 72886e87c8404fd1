"""OpenAI's facts. Errors: https://platform.openai.com/docs/guides/error-codes"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from shared.vendors.base import (
    INVALID,
    LIMITED,
    NO_QUOTA,
    UNREACHABLE,
    Check,
    KeyStatus,
    TellsAll,
    is_vendor_trouble,
    rows_of,
    vendors,
)

_MONEY_CODES = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
}
# Ids of these kinds can't hold a conversation.
_NOT_CHAT = (
    "-audio",
    "-image",
    "-realtime",
    "-transcribe",
    "-tts",
    "embedding",
    "whisper",
    "dall-e",
    "moderation",
    "sora",
    "tts-",
    "-instruct",
    "babbage",
    "davinci",
)
_FAMILIES = {"gpt-3.5": "gpt_3_5", "gpt-4": "gpt_4", "gpt-5": "gpt_5", "gpt-6": "gpt_6"}
_SEES = ("gpt-4-turbo", "gpt-4o", "gpt-4.1", "gpt-5", "gpt-6", "o3", "o4")
# The list names no abilities: these are known of all that go by such a name and are still served.
_CALLS_FUNCTIONS = ("gpt-", "o1", "o3", "o4", "chatgpt-")


class OpenAI(TellsAll):
    """https://api.openai.com/v1"""

    name = "openai"
    base_url = "https://api.openai.com/v1"
    check_path = "/models"

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        return {"authorization": f"Bearer {api_key}"}

    def read_check(self, status: int, body: Any) -> Check:
        error = body.get("error") if isinstance(body, dict) else None
        error = error if isinstance(error, dict) else {}
        codes = {str(error.get("code")), str(error.get("type"))}
        if status == 200:
            return _found(body)
        if codes & _MONEY_CODES:
            return NO_QUOTA
        if is_vendor_trouble(status):
            return UNREACHABLE
        if status in {401, 403} and "Missing scopes" in str(error.get("message")):
            return LIMITED
        if status == 401 and "invalid_api_key" in codes:
            return INVALID
        return LIMITED if status in {401, 403} else UNREACHABLE


def _found(body: Any) -> Check:
    today = datetime.now(UTC).date()
    found = {_chat_model(row, today) for row in rows_of(body, "data")}
    models = tuple(sorted(filter(None, found)))
    capabilities = {
        word for prefix, word in _FAMILIES.items() if any(m.startswith(prefix) for m in models)
    }
    if any(model.startswith(_CALLS_FUNCTIONS) for model in models):
        capabilities |= {"function_calling", "code_interpreter"}
    if any(model.startswith(_SEES) for model in models):
        capabilities.add("multimodal")
    return Check(KeyStatus.VALID, models=models, capabilities=tuple(sorted(capabilities)))


def _chat_model(row: Any, today: date) -> str | None:
    name = row.get("id") if isinstance(row, dict) else None
    if not isinstance(name, str) or any(mark in name for mark in _NOT_CHAT):
        return None
    return None if _is_past(row.get("shutdown_date"), today) else name


def _is_past(shutdown: Any, today: date) -> bool:
    """Models stay listed for a while after their last day."""
    try:
        return isinstance(shutdown, str) and date.fromisoformat(shutdown[:10]) < today
    except ValueError:
        return False


vendors.register("openai")(OpenAI())
