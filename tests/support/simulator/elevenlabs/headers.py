"""The headers of ElevenLabs' answers."""

from tests.support.simulator.call import Call


def headers_for(call: Call, content_type: str = "application/json") -> dict[str, str]:
    return {"Content-Type": content_type, "request-id": call.request_id}


def headers_of_speech(call: Call, content_type: str, credits_charged: int) -> dict[str, str]:
    return {
        **headers_for(call, content_type),
        "character-cost": str(credits_charged),
        "history-item-id": f"history-{call.request_id}",
        "current-concurrent-requests": "1",
        "maximum-concurrent-requests": "20",
    }
