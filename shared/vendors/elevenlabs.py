"""ElevenLabs' facts. Errors: https://elevenlabs.io/docs/errors"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.vendors.base import (
    INVALID,
    LIMITED,
    NO_QUOTA,
    UNREACHABLE,
    Answer,
    Check,
    Detail,
    KeyStatus,
    is_vendor_trouble,
    rows_of,
    vendors,
)

VOICES, MODELS = "/v1/voices", "/v1/models"
# What the subscription calls them, and what we do.
_NUMBERS = {
    "character_count": "characters_used",
    "character_limit": "characters_limit",
    "voice_slots_used": "voice_slots_used",
    "voice_limit": "voice_slots",
}
_WORDS = {"tier": "plan", "status": "plan_status"}


class ElevenLabs:
    """https://api.elevenlabs.io"""

    name = "elevenlabs"
    base_url = "https://api.elevenlabs.io"
    check_path = "/v1/user/subscription"
    # A key may lack the permission for one of these and have it for another.
    further_paths: tuple[str, ...] = (VOICES, MODELS)

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        return {"xi-api-key": api_key}

    def read_check(self, status: int, body: Any) -> Check:
        if status == 200:
            return _found(body)
        words = _words(body)
        # A 401 may mean a good key: out of credit, or without this permission.
        if "quota_exceeded" in words:
            return NO_QUOTA
        if is_vendor_trouble(status):
            return UNREACHABLE
        if "missing_permissions" in words:
            return LIMITED
        if status == 401 and "invalid_api_key" in words:
            return INVALID
        return LIMITED if status in {401, 402, 403} else UNREACHABLE

    def read_further(self, check: Check, answers: Mapping[str, Answer]) -> Check:
        found = {path: answer.body for path, answer in answers.items() if answer.status == 200}
        details, capabilities = dict(check.details), set(check.capabilities)
        if VOICES in found:
            details |= _voices(rows_of(found[VOICES], "voices"))
        models = _speaking_models(found.get(MODELS))
        if models:
            capabilities |= {"text_to_speech", "realtime"}
        return replace(
            check, models=models, capabilities=tuple(sorted(capabilities)), details=details
        )


def _words(body: Any) -> set[str]:
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, str):
        return {detail}
    if isinstance(detail, dict):
        return {str(detail.get("status")), str(detail.get("code"))}
    return set()


def _found(body: Any) -> Check:
    plan = body if isinstance(body, dict) else {}
    capabilities = {"text_to_speech", "realtime"}
    if plan.get("can_use_instant_voice_cloning"):
        capabilities.add("voice_cloning")
    if plan.get("can_use_professional_voice_cloning"):
        capabilities.add("professional_voice_cloning")
    return Check(
        KeyStatus.VALID, capabilities=tuple(sorted(capabilities)), details=_plan_limits(plan)
    )


def _plan_limits(plan: Mapping[str, Any]) -> dict[str, Detail]:
    numbers = {ours: plan.get(theirs) for theirs, ours in _NUMBERS.items()}
    words = {ours: plan.get(theirs) for theirs, ours in _WORDS.items()}
    return {
        **{name: value for name, value in numbers.items() if type(value) is int},
        **{name: value for name, value in words.items() if isinstance(value, str)},
    }


def _voices(rows: list[Any]) -> dict[str, Detail]:
    """How many there are, and how many of them are the account's own clones."""
    categories = [row.get("category") for row in rows if isinstance(row, dict)]
    return {"voices": len(categories), "cloned_voices": categories.count("cloned")}


def _speaking_models(body: Any) -> tuple[str, ...]:
    rows = body if isinstance(body, list) else []
    return tuple(
        sorted(
            row["model_id"]
            for row in rows
            if isinstance(row, dict)
            and isinstance(row.get("model_id"), str)
            and row.get("can_do_text_to_speech") is True
        )
    )


vendors.register("elevenlabs")(ElevenLabs())
