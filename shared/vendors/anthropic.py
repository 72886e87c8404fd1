"""Anthropic's facts. Errors: https://docs.anthropic.com/en/api/errors"""

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
    TellsAll,
    is_vendor_trouble,
    rows_of,
    vendors,
)

API_VERSION = "2026-10-21"
# The one before, the last that takes sampling fields.
OLD_API_VERSION = "2023-06-01"
MONEY_CODES = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
# The owner's own limit comes as a 400 that only its words tell from a bad request.
OWN_LIMIT = "You have reached your specified"
_LINES = ("haiku", "sonnet", "opus", "fable", "mythos")


class Anthropic(TellsAll):
    """https://api.anthropic.com"""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    check_path = "/v1/models?limit=1000"

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        return {"x-api-key": api_key, "anthropic-version": API_VERSION}

    def read_check(self, status: int, body: Any) -> Check:
        error = body.get("error") if isinstance(body, dict) else None
        error = error if isinstance(error, dict) else {}
        details = error.get("details")
        detail_code = details.get("error_code") if isinstance(details, dict) else None
        if status == 200:
            return _found(body)
        if status == 402 or detail_code in MONEY_CODES or _is_own_limit(status, error):
            return NO_QUOTA
        if detail_code == "organization_on_hold":
            return LIMITED
        if is_vendor_trouble(status):
            return UNREACHABLE
        if status == 401:
            return INVALID
        return LIMITED if status == 403 else UNREACHABLE


def _is_own_limit(status: int, error: Mapping[str, Any]) -> bool:
    return status == 400 and str(error.get("message")).startswith(OWN_LIMIT)


def _found(body: Any) -> Check:
    rows = rows_of(body, "data")
    models = tuple(
        sorted(
            row["id"]
            for row in rows
            if isinstance(row, dict)
            and isinstance(row.get("id"), str)
            and row.get("lifecycle", "active") != "retired"
        )
    )
    capabilities = {f"claude_{line}" for line in _LINES if any(line in m for m in models)}
    if models:
        # The list has no flag for tools: every model of the present generations takes them.
        general = {"text_generation", "code_analysis", "ethical_reasoning", "function_calling"}
        capabilities |= general
    if any(_tokens_in(row) >= 200_000 for row in rows):
        capabilities.add("long_context")
    if any(_supports_images(row) for row in rows):
        capabilities.add("multimodal")
    return Check(KeyStatus.VALID, models=models, capabilities=tuple(sorted(capabilities)))


def _tokens_in(row: Any) -> int:
    value = row.get("max_input_tokens") if isinstance(row, dict) else None
    return value if isinstance(value, int) else 0


def _supports_images(row: Any) -> bool:
    capabilities = row.get("capabilities") if isinstance(row, dict) else None
    image = capabilities.get("image_input") if isinstance(capabilities, dict) else None
    return bool(image.get("supported")) if isinstance(image, dict) else False


vendors.register("anthropic")(Anthropic())
