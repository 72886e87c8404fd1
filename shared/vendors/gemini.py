"""Gemini's facts. Errors: https://ai.google.dev/gemini-api/docs/troubleshooting"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

_NOT_CHAT = (
    "-tts",
    "-image",
    "nano-banana",
    "-live",
    "omni",
    "robotics",
    "embedding",
    "transcribe",
    "lyria",
    "computer-use",
)
BAD_KEY_REASONS = {"API_KEY_INVALID", "ACCESS_TOKEN_TYPE_UNSUPPORTED"}
_GENERATION = re.compile(r"gemini-(\d{1,2})[.-]")


class Gemini(TellsAll):
    """https://generativelanguage.googleapis.com"""

    name = "gemini"
    base_url = "https://generativelanguage.googleapis.com"
    check_path = "/v1/models?pageSize=1000"

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": api_key}

    def read_check(self, status: int, body: Any) -> Check:
        # The error can arrive wrapped in a list of one.
        body = body[0] if isinstance(body, list) and body else body
        error = body.get("error") if isinstance(body, dict) else None
        reasons = _reasons(error) if isinstance(error, dict) else set()
        if status == 200:
            return _found(body)
        if status == 402:
            return NO_QUOTA
        if is_vendor_trouble(status):
            return UNREACHABLE
        # A bad key is a 400 here, told from a bad request by its reason alone.
        if reasons & BAD_KEY_REASONS or status == 401:
            return INVALID
        return LIMITED if status == 403 or _is_about_the_account(error) else UNREACHABLE


def _is_about_the_account(error: Any) -> bool:
    """The key is known, but not served where we are."""
    return isinstance(error, dict) and error.get("status") == "FAILED_PRECONDITION"


def _reasons(error: dict[str, Any]) -> set[str]:
    details = error.get("details")
    rows = details if isinstance(details, list) else []
    return {str(row.get("reason")) for row in rows if isinstance(row, dict)}


def _found(body: Any) -> Check:
    models = tuple(sorted(filter(None, map(_chat_model, rows_of(body, "models")))))
    capabilities = {f"gemini_{found[1]}" for m in models if (found := _GENERATION.match(m))}
    if models:
        capabilities |= {"code_generation", "text_generation"}
    # The list names no abilities; open models of other names lie beside these.
    if any(model.startswith("gemini-") for model in models):
        capabilities |= {"function_calling", "multimodal"}
    return Check(KeyStatus.VALID, models=models, capabilities=tuple(sorted(capabilities)))


def _chat_model(row: Any) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return None
    name = str(row["name"]).removeprefix("models/")
    generates = "generateContent" in rows_of(row, "supportedGenerationMethods")
    return name if generates and not any(mark in name for mark in _NOT_CHAT) else None


vendors.register("gemini")(Gemini())
