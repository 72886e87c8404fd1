"""How long a stolen signing key stays good, at the gateway and at each service, in real time.

Takes about a minute and a half, so it is no test: `python -m tests.e2e.measure_key_removal`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.suite import Person, Suite, a_person, running_suite

ROUTES = {
    "auth": "/auth/me",
    "keyvault": "/keys/openai",
    "chat": "/chat/sessions",
    "billing": "/billing/usage",
}
PATIENCE_SECONDS = 90
# Where turns are made the gateway remembers tokens, and lets these pass to chat.
THROUGH = "chat, through the gateway"
# What the gateway says itself; a service's own refusal says something else.
GATEWAYS_WORDS = "A valid access token is needed."


async def refused_after(url: str, person: Person, began: float, words: str = "") -> float:
    """Seconds from the command's end until the token is refused."""
    headers = {"authorization": person.client.headers["authorization"]}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=5) as client:
        while time.monotonic() - began < PATIENCE_SECONDS:
            answer = await client.get(url)
            if answer.status_code == 401 and words in answer.json()["detail"]:
                return time.monotonic() - began
            await asyncio.sleep(0.1)
    return float("inf")


async def measure(suite: Suite) -> None:
    person = a_person(suite)
    await person.register()
    await person.store_key()
    keys = json.loads(suite.installation.data.signing_keys.read_text())["keys"]
    [active] = [key["kid"] for key in keys if key["state"] == "active"]
    for path in ROUTES.values():
        # Each service knows the public keys, as one that is in use does.
        assert (await person.client.get(path)).status_code == 200
    began = time.monotonic()
    done = await asyncio.to_thread(suite.command, "auth", "remove-signing-key", active)
    assert done.returncode == 0, done.stderr
    print(f"the command took {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    ports = suite.installation.ports()
    measured = {
        name: refused_after(f"http://127.0.0.1:{ports[name]}{path}", person, began)
        for name, path in ROUTES.items()
    }
    measured |= {
        "gateway": refused_after(suite.url + "/keys/openai", person, began, GATEWAYS_WORDS),
        THROUGH: refused_after(suite.url + ROUTES["chat"], person, began),
    }
    after = await asyncio.gather(*measured.values())
    for name, seconds in zip(measured, after, strict=True):
        print(f"{name:25} refuses the key's tokens after {seconds:5.1f} s")
    began = time.monotonic()
    await person.refresh()
    for path in ROUTES.values():
        assert (await person.client.get(path)).status_code == 200
    print(f"the user goes on with a new token after {time.monotonic() - began:.2f} s")
    await person.client.aclose()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="removal-") as name, running_suite(Path(name)) as suite:
        asyncio.run(measure(suite))


if __name__ == "__main__":
    main()
