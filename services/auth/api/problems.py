"""The problem document, for the OpenAPI page."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """RFC 9457, with a stable `code` and the facts of the failure beside it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None


def problems(**codes: str) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses=`: `problems(_409="account_exists")`."""
    return {
        int(status.removeprefix("_")): {
            "description": f"Problem: {code}",
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status, code in codes.items()
    }
