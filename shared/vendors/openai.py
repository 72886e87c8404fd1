"""OpenAI's facts. Errors: https://platform.openai.com/docs/guides/error-codes"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.vendors.base import (
    INVALID,
    LIMITED,
    NO_QUOTA,
    UNREACHABLE,
    Check,
    KeyStatus,
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
    "omni-moderation",
    "sora",
    "tts-",
)
_FAMILIES = {"gpt-3.5": "gpt_3_5", "gpt-4": "gpt_4", "gpt-5": "gpt_5", "gpt-6": "gpt_6"}


class OpenAI:
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
    rows = rows_of(body, "data")
    ids = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    models = tuple(sorted(i for i in ids if not any(mark in i for mark in _NOT_CHAT)))
    families = {
        word for prefix, word in _FAMILIES.items() if any(m.startswith(prefix) for m in models)
    }
    # Every chat model that is still served takes tools and reads code.
    general = {"function_calling", "code_interpreter"} if models else set()
    return Check(KeyStatus.VALID, models=models, capabilities=tuple(sorted(families | general)))


vendors.register("openai")(OpenAI())
