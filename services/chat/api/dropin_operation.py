"""What OpenAPI says of calls whose bodies are passed on in a vendor's own wire."""

from __future__ import annotations

from typing import Any

from shared.http.idempotency_key import PARAMETER

_OBJECT = {"type": "object", "description": "As the vendor documents it."}

free_call: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _OBJECT}}}
}
paid_call: dict[str, Any] = {
    **free_call,
    "parameters": [PARAMETER],
}
