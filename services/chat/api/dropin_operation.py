"""What OpenAPI says of calls whose bodies are passed on in a vendor's own wire."""

from __future__ import annotations

from typing import Any

from services.chat.api.idempotency_key import LONGEST_KEY, PATTERN

_OBJECT = {"type": "object", "description": "As the vendor documents it."}

free_call: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _OBJECT}}}
}
paid_call: dict[str, Any] = {
    **free_call,
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": LONGEST_KEY,
                "pattern": PATTERN,
            },
        }
    ],
}
