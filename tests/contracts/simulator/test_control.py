"""The control API: faults by order, the ledger, headers and defaults."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.simulator.keys import digest
from tests.support.simulator.process import RunningSimulator, running_simulator


async def ask(http: httpx.AsyncClient, key: str, text: str = "hi", **extra: Any) -> httpx.Response:
    return await http.post(
        "/openai/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "gpt-6-luna", "messages": [{"role": "user", "content": text}], **extra},
    )


async def statuses(http: httpx.AsyncClient, key: str, times: int) -> list[int]:
    return [(await ask(http, key)).status_code for _ in range(times)]


async def test_faults_happen_in_order_and_as_often_as_asked(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.add_fault("rate_limit", vendor="openai", times=2, retry_after=9)
    simulator.add_fault("overloaded", vendor="openai", path="/v1/chat/*")
    assert await statuses(http, key, 4) == [429, 429, 503, 200]


async def test_a_fault_can_be_for_one_key_one_path_or_one_vendor(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.add_fault("rate_limit", key="sim-key-of-another")
    simulator.add_fault("rate_limit", path="/v1/responses")
    simulator.add_fault("rate_limit", vendor="gemini")
    assert await statuses(http, key, 1) == [200]
    assert await statuses(http, "sim-key-of-another", 2) == [429, 200]


async def test_a_fault_without_end_is_cleared(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.add_fault("server_error", times=0)
    assert await statuses(http, key, 3) == [500, 500, 500]
    faults = (await http.get("/_sim/faults")).json()["faults"]
    assert [fault["times_left"] for fault in faults] == [None]
    simulator.clear_faults()
    assert await statuses(http, key, 1) == [200]


async def test_faults_meet_reading_calls_too(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.add_fault("unavailable", vendor="elevenlabs", path="/v1/user/*")
    headers = {"xi-api-key": key}
    assert (await http.get("/elevenlabs/v1/models", headers=headers)).status_code == 200
    path = "/elevenlabs/v1/user/subscription"
    assert (await http.get(path, headers=headers)).status_code == 503
    simulator.add_fault("cut", vendor="elevenlabs")
    with pytest.raises(httpx.TransportError):
        await http.get(path, headers=headers)


async def test_a_fault_may_only_set_the_manner(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.add_fault("pace", chunks=20)
    await ask(http, key, stream=True)
    assert simulator.served(key=key)[0]["chunks"] == 20


def test_an_unknown_fault_is_not_taken(simulator: RunningSimulator) -> None:
    for wrong in ("rate_limits", "block_prompt"):
        with pytest.raises(ValueError, match=wrong):
            simulator.add_fault(wrong)
    with pytest.raises(ValueError, match="no fault 'too_early'"):
        simulator.add_fault("too_early", vendor="openai")
    with pytest.raises(ValueError, match="needs a number"):
        simulator.add_fault("cut", at="soon")
    with pytest.raises(ValueError, match="no vendor"):
        simulator.add_fault("cut", vendor="mistral")


async def test_the_ledger_can_be_asked_and_wiped(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    answer = await ask(http, key, "one two [[sim:cached=5,reasoning=3]]")
    await ask(http, key, "x [[sim:fault=bad_request]]")
    first, second = simulator.served(key=key)
    assert first["number"] < second["number"]
    assert first["key_sha256"] == digest(key)
    assert first["response_id"] == answer.json()["id"]
    assert first["usage"] == {
        "input_tokens": 8,
        "cache_read_tokens": 5,
        "cache_write_tokens": 0,
        "output_tokens": 7,
        "output_reasoning_tokens": 3,
    }
    assert (second["outcome"], second["status"], second["fault"]) == ("error", 400, "bad_request")
    assert simulator.served(after=first["number"], key=key) == [second]
    assert simulator.served(key=key, outcome="error") == [second]
    assert simulator.served(key=key, limit=1) == [second]
    assert simulator.served(vendor="openai", response_id=first["response_id"]) == [first]
    simulator.forget_served()
    assert simulator.served() == []
    await ask(http, key)
    assert simulator.served(key=key)[0]["number"] > second["number"]


async def test_headers_are_shown_without_keys(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    await http.get("/gemini/v1/models?key=" + key, headers={"x-test": "1", "cookie": key})
    last = simulator.last_headers()
    assert last == simulator.last_headers("gemini")
    headers = {name.lower(): value for name, value in last["headers"]}
    assert headers["x-test"] == "1"
    assert headers["cookie"] == f"sha256:{digest(key)}"
    assert last["query"] == f"key=sha256:{digest(key)}"
    assert key not in str(last)
    with pytest.raises(ValueError, match="No request"):
        simulator.last_headers("nobody")


async def test_defaults_hold_for_every_request(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    simulator.set_defaults(chunks=5)
    await ask(http, key, stream=True)
    await ask(http, key, "hi [[sim:chunks=7]]", stream=True)
    assert [served["chunks"] for served in simulator.served(key=key)] == [5, 7]
    with pytest.raises(ValueError, match="no option"):
        simulator.set_defaults(speed=5)


async def test_every_kind_is_listed(http: httpx.AsyncClient, simulator: RunningSimulator) -> None:
    kinds = (await http.get("/_sim/kinds")).json()
    assert kinds.keys() == {"general", "openai", "anthropic", "gemini", "elevenlabs"}
    for kind in kinds["general"]:
        simulator.add_fault(kind)
    for vendor in ("openai", "anthropic", "gemini", "elevenlabs"):
        for kind in kinds[vendor]:
            simulator.add_fault(kind, vendor=vendor)


async def test_settings_of_the_start_are_defaults() -> None:
    with running_simulator("--chunks", "4", "--chunk-delay-ms", "1") as simulator:
        async with httpx.AsyncClient(base_url=simulator.url, trust_env=False) as http:
            await ask(http, "sim-key-1", stream=True)
        assert simulator.served()[0]["chunks"] == 4


async def test_a_head_that_is_broken_off_before_its_body_asked_for_nothing(
    http: httpx.AsyncClient, simulator: RunningSimulator, key: str
) -> None:
    assert http.base_url.port is not None
    head = (
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: simulator\r\n"
        f"Authorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    writer.write(head.encode() + b'{"model":')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await statuses(http, key, 1) == [200]
    assert [served["outcome"] for served in simulator.served(key=key)] == ["completed"]
