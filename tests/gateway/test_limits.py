"""How much a request may hold, how long it may take, and how often it may come."""

import pytest

from tests.gateway.conftest import ORIGIN, Gateway
from tests.gateway.tokens import a_token, bearer

SMALL, LARGE, SAMPLES = 10_000, 50_000, 80_000


@pytest.mark.parametrize("path", ["/auth/me", "/keys/openai", "/legacy/x"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_small_body_has_a_small_limit(impatient: Gateway, path: str, chunked: bool) -> None:
    token = bearer(a_token(impatient.key))
    fits = await impatient.send(
        path, method="POST", headers=token, body=b"x" * SMALL, chunked=chunked
    )
    assert (fits.status, fits.json["body_bytes"]) == (200, SMALL)
    over = await impatient.send(
        path, method="POST", headers=token, body=b"x" * (SMALL + 1), chunked=chunked
    )
    assert (over.status, over.json["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "path", ["/chat/sessions", "/v1/responses", "/openai/v1/x", "/voice/speech", "/elevenlabs/v1"]
)
async def test_chat_and_voice_take_large_bodies(impatient: Gateway, path: str) -> None:
    token = bearer(a_token(impatient.key))
    fits = await impatient.send(path, method="POST", headers=token, body=b"x" * LARGE)
    assert (fits.status, fits.json["body_bytes"]) == (200, LARGE)
    over = await impatient.send(path, method="POST", headers=token, body=b"x" * (LARGE + 1))
    assert (over.status, over.json["code"]) == (413, "too_large")
    page = await impatient.send(
        path, method="POST", headers=token | {"Origin": ORIGIN}, body=b"x" * (LARGE + 1)
    )
    assert (page.status, page.headers["access-control-allow-origin"]) == (413, ORIGIN)


@pytest.mark.parametrize("path", ["/voice/voices", "/elevenlabs/v1/voices/add"])
async def test_recordings_may_be_larger_still(impatient: Gateway, path: str) -> None:
    token = bearer(a_token(impatient.key))
    fits = await impatient.send(path, method="POST", headers=token, body=b"x" * SAMPLES)
    assert (fits.status, fits.json["body_bytes"]) == (200, SAMPLES)
    over = await impatient.send(path, method="POST", headers=token, body=b"x" * (SAMPLES + 1))
    assert (over.status, over.json["code"]) == (413, "too_large")


async def test_a_large_body_without_a_length_is_the_services_to_count(impatient: Gateway) -> None:
    """Envoy could only stop it by holding all of it back, and then nothing would stream."""
    answer = await impatient.send(
        "/chat/sessions",
        method="POST",
        headers=bearer(a_token(impatient.key)),
        body=b"x" * (LARGE + 1),
        chunked=True,
    )
    assert answer.json["body_bytes"] == LARGE + 1


async def test_a_large_body_without_a_token_goes_nowhere(impatient: Gateway) -> None:
    answer = await impatient.send("/chat/x", method="POST", body=b"x" * (LARGE + 1))
    assert answer.status == 401


@pytest.mark.parametrize("length", ["99999999999999999999999", "-1", "1e9", "0x10", "1, 2"])
async def test_an_absurd_length_is_refused(gateway: Gateway, length: str) -> None:
    headers = bearer(a_token(gateway.key)) | {"Content-Length": length}
    answer = await gateway.send("/chat/x", method="POST", headers=headers)
    assert answer.status in (400, 413)


async def test_a_real_gateway_takes_a_megabyte(gateway: Gateway) -> None:
    token = bearer(a_token(gateway.key))
    body = b"x" * (1024 * 1024 + 1)
    assert (await gateway.send("/keys", method="POST", headers=token, body=body)).status == 413
    answer = await gateway.send("/voice/voices", method="POST", headers=token, body=body)
    assert answer.json["body_bytes"] == len(body)


async def test_header_fields_have_a_limit(gateway: Gateway) -> None:
    """A token may have 8 KiB, so all fields together get 16."""
    assert (await gateway.send("/health", headers={"x-a": "x" * 12_000})).status == 200
    for headers in ({"x-a": "x" * 20_000}, {f"x-{number}": "x" for number in range(120)}):
        answer = await gateway.send("/health", headers=headers)
        assert (answer.status, answer.json["code"]) == (431, "header_too_large")


async def test_a_flood_from_one_address_is_shed(behind_a_proxy: Gateway) -> None:
    """Two a second, and as many again in a burst; others don't notice."""
    flood = [
        await behind_a_proxy.send("/health", headers={"X-Forwarded-For": "203.0.113.50"})
        for _ in range(12)
    ]
    statuses = [answer.status for answer in flood]
    assert statuses[:4] == [200] * 4
    shed = flood[-1]
    assert (shed.status, shed.json["code"]) == (429, "too_many_requests")
    assert shed.headers["retry-after"] == "1"
    other = await behind_a_proxy.send("/health", headers={"X-Forwarded-For": "203.0.113.51"})
    assert other.status == 200


async def test_a_network_of_ipv6_is_one_client(behind_a_proxy: Gateway) -> None:
    """Whoever has one address of IPv6 has 2^64 of them."""
    flood = [
        await behind_a_proxy.send("/health", headers={"X-Forwarded-For": f"2001:db8:5:7::{n:x}"})
        for n in range(12)
    ]
    assert [answer.status for answer in flood][:4] == [200] * 4
    assert flood[-1].status == 429
    other = {"X-Forwarded-For": "2001:db8:5:8::1"}
    assert (await behind_a_proxy.send("/health", headers=other)).status == 200


async def test_an_ordinary_answer_must_come_in_time(impatient: Gateway) -> None:
    answer = await impatient.send("/auth/slow", headers=bearer(a_token(impatient.key)))
    assert (answer.status, answer.json["code"]) == (504, "service_timeout")


@pytest.mark.parametrize("path", ["/keys", "/chat/sessions"])
async def test_a_body_must_arrive_in_time(impatient: Gateway, path: str) -> None:
    headers = bearer(a_token(impatient.key)) | {"Content-Length": "10"}
    answer = await impatient.send(path, method="POST", headers=headers, body=b"slow")
    assert (answer.status, answer.json["code"]) == (408, "request_timeout")
