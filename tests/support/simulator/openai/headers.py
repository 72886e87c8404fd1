"""The headers of OpenAI's answers."""

from typing import Final

from tests.support.simulator.call import Call
from tests.support.simulator.wire import EVENT_STREAM, JSON

_ALWAYS: Final = {
    "openai-organization": "sim-org",
    "openai-processing-ms": "1",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "30000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "29999990",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "12ms",
}
_WHOLE: Final = JSON | _ALWAYS
_STREAM: Final = EVENT_STREAM | _ALWAYS


def headers_for(call: Call, *, stream: bool = False) -> dict[str, str]:
    return {**(_STREAM if stream else _WHOLE), "x-request-id": call.request_id}
