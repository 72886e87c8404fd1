"""ElevenLabs' facts. Errors: https://elevenlabs.io/docs/errors"""

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
    vendors,
)


class ElevenLabs:
    """https://api.elevenlabs.io"""

    name = "elevenlabs"
    base_url = "https://api.elevenlabs.io"
    check_path = "/v1/user/subscription"

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
    return Check(KeyStatus.VALID, capabilities=tuple(sorted(capabilities)))


vendors.register("elevenlabs")(ElevenLabs())
