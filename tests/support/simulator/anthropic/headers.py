"""The headers of Anthropic's answers."""

from typing import Final

from tests.support.simulator.call import Call
from tests.support.simulator.wire import EVENT_STREAM, JSON

_ALWAYS: Final = {
    "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
    **{
        f"anthropic-ratelimit-{what}-{name}": value
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
        for name, value in (
            ("limit", "4000000"),
            ("remaining", "3999999"),
            ("reset", "2026-11-24T12:00:00Z"),
        )
    },
}
_WHOLE: Final = JSON | _ALWAYS
_STREAM: Final = EVENT_STREAM | _ALWAYS


def headers_for(call: Call, *, stream: bool = False) -> dict[str, str]:
    return {**(_STREAM if stream else _WHOLE), "request-id": call.request_id}
