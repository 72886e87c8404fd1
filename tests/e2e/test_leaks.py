"""Marked keys go through every door of a running suite; then everything it left is searched.

The operations come from keyvault's own documents, so that a new one is driven here by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
import redis

from deploy.companion.programs import SERVICES
from tests.support.core_dumps import least_core_limit
from tests.support.leaks import (
    Hunt,
    database_dumps,
    files,
    forms_of,
    key_material,
    process_words,
    secrets_of_the_services,
    valkey_contents,
    with_insides,
)
from tests.support.openapi import Operation, operations
from tests.support.suite import Person, Suite, a_person, eventually
from tests.support.suite_organisations import mailed_token
from tests.support.tenants import VALUES, together

pytestmark = pytest.mark.e2e

PROVIDERS = ("openai", "anthropic", "gemini", "elevenlabs")
# What the simulated vendors think of a key stands in the key itself.
MARKS = ("good", "invalid", "limited", "noquota", "unreachable", "unreachable-reset")
NOBODY = "0198c0de-0000-7000-8000-0000000000ff"


def new_key(hunt: Hunt, mark: str = "good") -> str:
    # Of no shape that redaction would know: what hides these is that nobody writes them down.
    key = f"sim-{mark}-{uuid4().hex}"
    hunt.mark(key)
    return key


@pytest.fixture(scope="module")
async def documents(suite: Suite) -> list[tuple[str, list[Operation]]]:
    """Each door of keyvault, by its address, with what it says it can do."""
    ports = suite.installation.ports()
    doors = [suite.url, *(f"http://127.0.0.1:{ports[name]}" for name in ("keyvault-internal",))]
    found = []
    async with httpx.AsyncClient(trust_env=False) as client:
        for door in doors:
            path = "/keyvault/openapi.json" if door == suite.url else "/openapi.json"
            answer = await client.get(door + path)
            assert answer.status_code == 200, f"{door}: {answer.text}"
            found.append((door, operations("keyvault", answer.json())))
    return found


def test_the_hunt_finds_what_is_there(suite: Suite) -> None:
    """In the logs, in a message of Celery, in an odd alignment: nothing of this may slip by."""
    hunt = Hunt()
    key = new_key(hunt)
    for slip in (
        key.encode(),
        key[::-1].encode(),
        key.encode().hex().encode(),
        *(b64encode(b"x" * offset + key.encode() + b"y") for offset in range(3)),
        json.dumps({"body": b64encode(json.dumps({"key": key}).encode()).decode()}).encode(),
    ):
        assert hunt.found_in(with_insides([("here", b"..." + slip + b"...")])), slip
    name = f"slip:{uuid4().hex}"
    url = suite.installation.addresses().broker_url
    with redis.Redis.from_url(url) as client:
        client.rpush(name, json.dumps({"body": b64encode(key.encode()).decode()}))
        try:
            assert hunt.found_in(with_insides(valkey_contents(url)))
        finally:
            client.delete(name)
    assert all(len(form) > 16 for form in forms_of(key.encode()))


async def test_no_key_is_ever_found_outside(
    suite: Suite, ada: Person, documents: list[tuple[str, list[Operation]]]
) -> None:
    hunt = Hunt()
    keyring = json.loads(suite.installation.data.keyring.read_text())
    for secret, name in key_material(keyring):
        hunt.mark(secret, name)
    hunt.mark(ada.api_key)

    await every_kind_of_key_at_every_vendor(suite, hunt)
    await calls_that_use_a_key(suite, ada, hunt)
    await asyncio.gather(*(refusals_that_repeat_a_key(suite, name, hunt) for name in QUESTIONS))
    for door, found in documents:
        await keys_to_where_none_belongs(ada, door, found, hunt)

    assert len(hunt.secrets) > 50
    assert len(hunt.said) > 200
    leaks = await asyncio.to_thread(hunt.found_in, with_insides(everywhere(suite, hunt)))
    assert not leaks, "\n".join(sorted(set(leaks))[:40])


async def test_nothing_that_opens_an_account_is_ever_found_outside(suite: Suite) -> None:
    """Passwords, tokens of both kinds, webhooks' secrets; mailed proofs only in their mails."""
    hunt, mailed, services = Hunt(), Hunt(), Hunt()
    for secret, name in secrets_of_the_services(suite.installation.data):
        services.mark(secret, name)

    person = a_person(suite)
    try:
        hunt.mark(person.password)
        await person.register()
        await wrong_passwords(person, hunt)
        await tokens_that_are_used_up(person, hunt)
        await a_personal_token_in_every_place(person, hunt)
        await proofs_by_mail(suite, person, hunt, mailed)
        await a_webhook(person, hunt)
    finally:
        await person.client.aclose()

    data = suite.installation.data
    places = {place: content for place, content in everywhere(suite, hunt) if content}
    unmailed = {k: v for k, v in places.items() if not k.startswith(str(data.mail))}
    # Only its own user reads what processes are to be started with, and their environment.
    told = {k: v for k, v in places.items() if not k.startswith((str(data.run), "environ "))}
    for hunted, where in ((hunt, places), (mailed, unmailed), (services, told)):
        assert hunted.secrets
        leaks = await asyncio.to_thread(hunted.found_in, with_insides(where.items()))
        assert not leaks, "\n".join(sorted(set(leaks))[:40])


async def wrong_passwords(person: Person, hunt: Hunt) -> None:
    """Guessed, misspelt fields, cut off, in the place of another word."""
    wrong = f"wrong {uuid4().hex}"
    hunt.mark(wrong)
    for body in (
        {"login": person.name, "password": wrong},
        {"login": person.name, "pasword": wrong},
        {"login": {"password": wrong}, "password": [wrong]},
        {"login": wrong, "password": wrong},
        f'{{"login": "{person.name}", "password": "{wrong}'.encode(),
    ):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        for path in ("/auth/login", "/auth/register", "/auth/step-up", "/auth/password"):
            hunt.hear(await person.client.post(path, content=content, headers=headers))
    hunt.hear(await person.client.post("/auth/login", params={"password": wrong}))


async def tokens_that_are_used_up(person: Person, hunt: Hunt) -> None:
    """The one before last ends the sign-in; and none is an access token."""
    used = [person.refresh_token]
    for _ in range(2):
        await person.refresh()
        used.append(person.refresh_token)
    for token in (*used, person.client.headers["authorization"].rpartition(".")[2]):
        hunt.mark(token)
    for token in used:
        headers = {"authorization": f"Bearer {token}"}
        hunt.hear(await person.client.get("/auth/me", headers=headers))
        hunt.hear(await person.client.post("/auth/refresh", json={"token": token}))
    hunt.hear(await person.client.post("/auth/refresh", json={"refresh_token": used[0]}))
    await person.sign_in()


async def a_personal_token_in_every_place(person: Person, hunt: Hunt) -> None:
    """Where SDKs put it, and where somebody may take it for its id."""
    wish = {"name": "a tool", "scopes": ["chat"], "expires_in_days": 1}
    made = (await person.client.post("/auth/tokens", json=wish)).json()
    token = made["token"]
    hunt.mark(token)
    for path, headers in (
        ("/chat/models", {"authorization": f"Bearer {token}"}),
        ("/auth/me", {"authorization": f"Bearer {token}"}),
        ("/chat/models", {"authorization": token}),
        ("/chat/models", {"cookie": f"token={token}"}),
        ("/anthropic/v1/models", {"x-api-key": token}),
        ("/gemini/v1beta/models", {"x-goog-api-key": token}),
        (f"/gemini/v1beta/models?key={token}", {}),
        ("/elevenlabs/v1/voices", {"xi-api-key": token}),
        (f"/v1/models/{token}", {}),
        (f"/{token}", {}),
    ):
        hunt.hear(await person.client.get(path, headers=headers))
    hunt.hear(await person.client.delete(f"/auth/tokens/{token}"))
    hunt.hear(await person.client.delete(f"/auth/tokens/{made['id']}"))
    for path in ("/auth/tokens", "/auth/audit", "/auth/me/export"):
        hunt.hear(await person.client.get(path))


async def proofs_by_mail(suite: Suite, person: Person, hunt: Hunt, mailed: Hunt) -> None:
    """An address is confirmed and a password is set anew by what was mailed."""
    confirmed = await mailed_token(suite, person, "verify-email")
    await person.client.post("/auth/password/forgot", json={"email": f"{person.name}@example.com"})
    reset = await mailed_token(suite, person, "reset-password")
    for token in (confirmed, reset):
        mailed.mark(token)
    for body in ({"token": confirmed + "x"}, {"tokens": confirmed}, {"token": confirmed}):
        mailed.hear(await person.client.post("/auth/verify-email", json=body))
    person.password = f"phrase {uuid4().hex}"
    hunt.mark(person.password)
    for new in ("short", person.password):
        body = {"token": reset, "new_password": new}
        mailed.hear(await person.client.post("/auth/password/reset", json=body))
    hunt.said += mailed.said
    await person.sign_in()


async def a_webhook(person: Person, hunt: Hunt) -> None:
    """Its secrets are told once, to whoever made them."""
    body = {"url": "http://127.0.0.1:9999/", "types": ["invoice.finalized"]}
    made = (await person.client.post("/billing/webhooks", json=body)).json()
    path = f"/billing/webhooks/{made['id']}"
    again = (await person.client.post(f"{path}/secret", json={})).json()
    for secret in (made["secret"], again["secret"]):
        hunt.mark(secret.removeprefix("whsec_"))
    hunt.hear(await person.client.post(f"{path}/test"))
    for shown in ("/billing/webhooks", path, f"{path}/deliveries"):
        hunt.hear(await person.client.get(shown))


def everywhere(suite: Suite, hunt: Hunt) -> Iterator[tuple[str, bytes]]:
    """All that a suite says, keeps and shows, but for the folder of its secrets."""
    installation = suite.installation
    addresses, data = installation.addresses(), installation.data
    yield "answers", b"\n".join(hunt.said)
    yield from files(data.logs, data.mail, data.run, suite.output)
    ports = installation.ports()
    for service in SERVICES:
        address = f"http://127.0.0.1:{ports[f'{service}-internal']}/metrics"
        yield f"metrics of {service}", httpx.get(address, trust_env=False).content
    # The broker and the results of Celery's tasks lie there too.
    yield from valkey_contents(addresses.cache_url)
    yield from database_dumps(addresses.database_url, SERVICES)
    yield from process_words(suite.process.pid)


def test_no_process_of_the_suite_may_leave_a_core_dump(suite: Suite) -> None:
    """Not even to a collector, which no limit but 1 keeps away (core(5))."""
    limits = {}
    for process in psutil.Process(suite.process.pid).children(recursive=True):
        # Some end meanwhile.
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            told = Path(f"/proc/{process.pid}/limits").read_text()
            limits[process.pid] = (process.name(), re.findall(r"core file size\s+(\S+)", told))
    assert {name for name, _ in limits.values()} >= {"envoy", "postgres"}
    least = str(least_core_limit())
    assert {pid: told for pid, told in limits.items() if told[1] != [least]} == {}


async def every_kind_of_key_at_every_vendor(suite: Suite, hunt: Hunt) -> None:
    """Stored, checked, shown, replaced, withdrawn."""

    async def one(mark: str) -> None:
        person = a_person(suite)
        await person.register()
        try:
            await together(
                person.client.put(f"/keys/{name}", json={"api_key": new_key(hunt, mark)})
                for name in PROVIDERS
            )

            async def statuses() -> set[str]:
                answer = hunt.hear(await person.client.get("/keys"))
                return {key["status"] for key in answer.json()["data"]}

            await eventually(statuses, lambda seen: "pending" not in seen)
            for name in PROVIDERS:
                hunt.hear(await person.client.get(f"/keys/{name}"))
                again = {"api_key": new_key(hunt, mark)}
                hunt.hear(await person.client.put(f"/keys/{name}", json=again))
                hunt.hear(await person.client.post(f"/keys/{name}/validate"))
                if mark in ("good", "invalid"):
                    hunt.hear(await person.client.delete(f"/keys/{name}"))
            hunt.hear(await person.client.get("/keys/audit"))
        finally:
            await person.client.aclose()

    await asyncio.gather(*(one(mark) for mark in MARKS))


async def calls_that_use_a_key(suite: Suite, ada: Person, hunt: Hunt) -> None:
    """What a turn leaves behind, one that works and those that a vendor spoils."""
    hunt.hear(await ada.ask("hello"))
    hunt.hear(await ada.ask("[[sim:fault=invalid_key]] hello"))
    hunt.hear(await ada.ask("[[sim:fault=connection_reset]] hello"))
    voice = {"api_key": new_key(hunt)}
    hunt.hear(await ada.client.put("/keys/elevenlabs", json=voice))
    voices = hunt.hear(await ada.client.get("/voice/voices")).json()["data"]
    speech = {"text": "hello", "voice_id": voices[0]["voice_id"]}
    hunt.hear(await ada.client.post("/voice/speech", json=speech))


# The last one is the word against the key.
REPEATED = (400, 500, 401)
# How each vendor's own interface asks: where, with what, and where it streams.
QUESTIONS: dict[str, Callable[[str], list[tuple[str, dict[str, Any]]]]] = {
    "openai": lambda text: [
        (path, {"model": "gpt-4", **asked, "stream": stream})
        for path, asked in (
            ("/openai/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
            ("/openai/v1/responses", {"input": text}),
        )
        for stream in (False, True)
    ],
    "anthropic": lambda text: [
        (
            "/anthropic/v1/messages",
            {
                "model": "claude-3-opus",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": text}],
                "stream": stream,
            },
        )
        for stream in (False, True)
    ],
    "gemini": lambda text: [
        (f"/gemini/v1beta/models/gemini-pro:{call}", {"contents": [{"parts": [{"text": text}]}]})
        for call in ("generateContent", "streamGenerateContent?alt=sse")
    ],
}


async def refusals_that_repeat_a_key(suite: Suite, provider: str, hunt: Hunt) -> None:
    """Through every door of chat: a vendor whose errors quote the key that they are about."""
    person = a_person(suite)
    await person.register()
    await person.become("enterprise")
    await person.start_session()

    def doors(text: str) -> list[tuple[str, dict[str, Any]]]:
        native = {"content": text, "provider": provider}
        over_all = {"model": f"{provider}/", "messages": [{"role": "user", "content": text}]}
        return [
            (f"/chat/sessions/{person.session_id}/messages", native),
            (f"/chat/sessions/{person.session_id}/messages", {**native, "stream": True}),
            ("/v1/chat/completions", over_all),
            ("/v1/chat/completions", {**over_all, "stream": True}),
            ("/v1/responses", {"model": f"{provider}/", "input": text}),
            *QUESTIONS[provider](text),
        ]

    faults = [f"echo_{status}" for status in REPEATED]
    try:
        for number in range(len(doors(""))):
            # A new one for each door: after the vendor's word against a key, nobody asks with it.
            await person.store_key(provider, new_key(hunt))
            for fault in faults:
                path, body = doors(f"[[sim:fault={fault}]] hello")[number]
                hunt.hear(await person.client.post(path, json=body))
            served = suite.simulator.served(key=person.api_key)
            assert {one["fault"] for one in served} == set(faults), path
    finally:
        await person.client.aclose()


def misplaced(key: str) -> list[Any]:
    """Bodies that carry a key off their schema, and some that are no JSON."""
    return [
        *(key, [key], {key: key}, {"key": key}, {"api_key": [key]}, {"api_key": {"value": key}}),
        *({"api_key": key, "note": key}, {"api_key": f"{key} {key}"}, {"api_key": key * 20}),
        {"api_key": f"{key}\x00"},
        f'{{"api_key": "{key}'.encode(),
        f"api_key={key}".encode(),
        f'{{"api_key": "{key}"}} {key}'.encode(),
        f'{{"api_key": "{key}\\ud800"}}'.encode(),
    ]


async def keys_to_where_none_belongs(
    person: Person, door: str, found: list[Operation], hunt: Hunt
) -> None:
    """Each operation with a key in its path, its query, its headers and its body."""
    assert found
    requests: list[dict[str, Any]] = []
    for operation in found:
        parameters = dict.fromkeys(operation.path_parameters, "openai")
        parameters |= {name: NOBODY for name in parameters if name.endswith("_id")}
        good = _filled(operation.path, parameters)
        for name in parameters:
            path = _filled(operation.path, {**parameters, name: new_key(hunt)})
            requests.append({"method": operation.method, "url": path})
        key = new_key(hunt)
        asked = operation.query({**VALUES, "*": key})
        query = {**asked, "key": key, "cursor": key, "limit": key}
        requests.append({"method": operation.method, "url": good, "params": query})
        for header in headers_of(door, person.suite):
            headers = {header: new_key(hunt)}
            requests.append({"method": operation.method, "url": good, "headers": headers})
        for token in (f"Bearer {new_key(hunt)}", new_key(hunt), f"Basic {new_key(hunt)}"):
            headers = {"authorization": token}
            requests.append({"method": operation.method, "url": good, "headers": headers})
        if operation.body_type is None:
            continue
        for body in misplaced(new_key(hunt)):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            call = {"method": operation.method, "url": good, "headers": headers}
            requests.append({**call, "content": content})
        full = operation.body({**VALUES, "api_key": new_key(hunt), "*": new_key(hunt)}, full=True)
        requests.append({"method": operation.method, "url": good, "json": full})
    token = person.client.headers["authorization"]
    async with httpx.AsyncClient(
        base_url=door, trust_env=False, timeout=30, headers={"authorization": token}
    ) as client:
        for answer in await together(client.request(**request) for request in requests):
            hunt.hear(answer)
            assert answer.status_code != 500, f"{answer.request.url}: {answer.text}"


def headers_of(door: str, suite: Suite) -> tuple[str, ...]:
    """Which headers to put a key into. Behind the gateway x-request-id is a service's own word,
    and every line says it: the gateway lets no client choose it."""
    ours = ("traceparent", "x-companion-user", "x-companion-grant")
    return (*ours, "x-request-id") if door == suite.url else ours


def _filled(path: str, parameters: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: parameters[found[1]], path)
