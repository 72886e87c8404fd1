"""Two hundred sign-ins of one client at once, on a process with the parameters of a deployment."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from tests.support.auth import PASSWORD
from tests.support.auth_process import AuthProcess, auth_process

MEBIBYTE = 1 << 20
AT_ONCE, WAITING, FLOOD = 2, 10, 200
HASH_MIB = 64
_ELSEWHERE = "192.0.2.7"


async def test_a_flood_of_sign_ins_is_bounded_and_shuts_nobody_else_out(
    database_url: str, cache_url: str, tmp_path: Path
) -> None:
    with auth_process(
        database_url, cache_url, tmp_path, AUTH_PASSWORDS_WAITING=str(WAITING)
    ) as process:
        async with httpx.AsyncClient(
            base_url=process.url, timeout=30, limits=httpx.Limits(max_connections=FLOOD + 8)
        ) as client:
            email, token = await _somebody(client)
            # As in any process that has been up for a moment, the keys of tokens are known.
            await client.get("/auth/me", headers={"authorization": f"Bearer {token}"})
            before = psutil.Process(process.pid).memory_info().rss
            watch = asyncio.create_task(_watch(process, client, token))
            await asyncio.sleep(0)
            flood = asyncio.gather(*(_login(client, email) for _ in range(FLOOD)))
            elsewhere = list[httpx.Response]()
            while not flood.done():
                elsewhere.append(await _login(client, email, _ELSEWHERE))
            answers = await flood
            watch.cancel()
            waits = await watch
            peak = most_memory_of(process.pid)

    by_status = Counter(answer.status_code for answer in answers)
    assert set(by_status) == {200, 503}
    # Half of the places are all that it gets at once.
    assert by_status[200] >= (AT_ONCE + WAITING) // 2
    assert by_status[503] >= FLOOD // 2
    for refused in answers:
        if refused.status_code == 503:
            assert refused.json()["code"] == "passwords_busy"
            assert int(refused.headers["retry-after"]) >= 1
    # It keeps nobody out who comes from elsewhere.
    assert len(elsewhere) >= 2
    assert {answer.status_code for answer in elsewhere} == {200}
    # More than one hash at once, and never three.
    assert HASH_MIB * MEBIBYTE < peak - before < (AT_ONCE * HASH_MIB + 56) * MEBIBYTE
    # How often there was time to look depends on the machine; how long anybody waits must not.
    assert len(waits) >= 4
    assert max(waits) < 5


async def _somebody(client: httpx.AsyncClient) -> tuple[str, str]:
    name = f"u{uuid4().hex[:12]}"
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
    assert (await client.post("/auth/register", json=body)).status_code == 201
    tokens = await _login(client, body["email"])
    return body["email"], tokens.json()["access_token"]


async def _login(
    client: httpx.AsyncClient, email: str, address: str = "198.51.100.9"
) -> httpx.Response:
    return await client.post(
        "/auth/login",
        json={"login": email, "password": PASSWORD},
        headers={"x-envoy-external-address": address},
    )


async def _watch(process: AuthProcess, client: httpx.AsyncClient, token: str) -> list[float]:
    """How long others waited, until cancelled."""
    waits = list[float]()
    try:
        while True:
            for url in (f"{process.internal_url}/healthz", "/auth/me"):
                began = time.monotonic()
                answer = await client.get(url, headers={"authorization": f"Bearer {token}"})
                waits.append(time.monotonic() - began)
                assert answer.status_code == 200, answer.text
                await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        return waits


def most_memory_of(pid: int) -> int:
    """The most that a process ever had resident, in bytes; the kernel keeps count."""
    status = Path(f"/proc/{pid}/status").read_text()
    kibibytes = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert kibibytes is not None
    return int(kibibytes[1]) * 1024
