"""The question that the egress proxy asks before each call to a vendor."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from prometheus_client import REGISTRY
from structlog.testing import CapturingLogger

from services.keyvault.api import egress
from shared.db.database import Database
from shared.ids import uuid7
from tests.integration.keyvault.harness import SECRET, Keyvault, a_user
from tests.support.tokens import serving

CALLS = {
    "openai": "openai/v1/chat/completions",
    "anthropic": "anthropic/v1/messages",
    "gemini": "gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    "elevenlabs": "elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream",
}
HEADERS = {
    "openai": ("authorization", f"Bearer {SECRET}"),
    "anthropic": ("x-api-key", SECRET),
    "gemini": ("x-goog-api-key", SECRET),
    "elevenlabs": ("xi-api-key", SECRET),
}


def refusal(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert SECRET not in answer.text + repr(answer.headers)
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("provider", sorted(CALLS))
async def test_a_call_with_both_proofs_gets_the_vendors_header_alone(
    keyvault: Keyvault, provider: str
) -> None:
    user = a_user()
    await keyvault.put(user, provider=provider)
    service = "voice" if provider == "elevenlabs" else "chat"

    answer = await keyvault.egress(user, CALLS[provider], provider=provider, service=service)

    assert answer.status_code == 200
    assert answer.content == b""
    name, value = HEADERS[provider]
    assert dict(answer.headers) == {
        name: value,
        "x-companion-key": f"{user} 1",
        "cache-control": "no-store",
        "content-length": "0",
        "x-request-id": answer.headers["x-request-id"],
    }


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS"])
async def test_the_calls_own_method_does_not_matter(keyvault: Keyvault, method: str) -> None:
    user = a_user()
    await keyvault.put(user)
    assert (await keyvault.egress(user, "openai/v1/models", method=method)).status_code == 200


async def test_each_use_stands_in_the_trail_once(keyvault: Keyvault, database: Database) -> None:
    user = a_user()
    await keyvault.put(user)

    for _ in range(3):
        await keyvault.egress(user)

    rows = await database.fetch(
        "select * from audit_entry where owner_id = $1 and kind = 'used'", user
    )
    assert len(rows) == len({row["grant_id"] for row in rows}) == 3
    assert {row["service"] for row in rows} == {"chat"}


async def test_a_grant_is_honoured_once(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    proofs = keyvault.proofs(user)

    assert (await keyvault.egress(user, headers=proofs)).status_code == 200
    assert refusal(await keyvault.egress(user, headers=proofs)) == (403, "grant_replayed")


async def test_a_grant_shown_many_times_at_once_is_honoured_once(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    proofs = keyvault.proofs(user)

    answers = await asyncio.gather(*(keyvault.egress(user, headers=proofs) for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 19


async def test_two_users_at_once_always_get_their_own_key(keyvault: Keyvault) -> None:
    users = {a_user(): "secret-of-the-one-01234", a_user(): "secret-of-the-other-0123"}
    for user, secret in users.items():
        await keyvault.put(user, secret)

    turns = [user for _ in range(20) for user in users]
    for _ in range(5):
        answers = await asyncio.gather(*(keyvault.egress(user) for user in turns))
        for user, answer in zip(turns, answers, strict=True):
            assert answer.headers["authorization"] == f"Bearer {users[user]}"


async def test_without_a_key_there_is_nothing_to_give(keyvault: Keyvault) -> None:
    assert refusal(await keyvault.egress(a_user())) == (404, "key_not_found")


async def test_a_key_that_its_vendor_refuses_is_not_given(
    keyvault: Keyvault, database: Database
) -> None:
    user = a_user()
    await keyvault.put(user)
    await database.execute("update provider_key set status = 'invalid' where owner_id = $1", user)
    answer = await keyvault.egress(user)
    assert refusal(answer) == (409, "key_not_usable")
    assert answer.json()["key_status"] == "invalid"


async def test_a_grant_needs_its_user_to_be_here(keyvault: Keyvault) -> None:
    owner, other = a_user(), a_user()
    await keyvault.put(owner)
    await keyvault.put(other)
    assert refusal(await keyvault.egress(owner, token_of=other)) == (403, "not_your_key")
    assert refusal(await keyvault.egress(other, token_of=owner)) == (403, "not_your_key")


@pytest.mark.parametrize(
    ("service", "provider"),
    [
        ("chat", "elevenlabs"),
        ("voice", "openai"),
        ("voice", "anthropic"),
        ("voice", "gemini"),
        ("billing", "openai"),
        ("auth", "openai"),
        ("keyvault", "openai"),
    ],
)
async def test_a_service_gets_keys_of_its_own_providers_only(
    keyvault: Keyvault, service: str, provider: str
) -> None:
    user = a_user()
    await keyvault.put(user, provider=provider)
    answer = await keyvault.egress(user, CALLS[provider], service=service, provider=provider)
    assert refusal(answer) == (403, "provider_not_allowed")


@pytest.mark.parametrize(
    "call",
    [
        "anthropic/v1/messages",
        "OpenAI/v1/models",
        "openai%2f/v1/models",
        "open%61i/v1/models",
        "%6fpenai/v1/models",
        "openai/../anthropic/v1/messages",
        "openai/%2e%2e/anthropic/v1/messages",
        "openai/%2E%2E%2Fanthropic/v1/messages",
        "openai/..;/anthropic/v1/messages",
        "openai/v1%5c..%5cmodels",
        "openai//v1/models",
        "/openai/v1/models",
        "openai;x/v1/models",
        "",
    ],
)
async def test_a_grant_is_good_for_calls_to_its_own_provider_only(
    keyvault: Keyvault, call: str
) -> None:
    user = a_user()
    await keyvault.put(user)
    await keyvault.put(user, provider="anthropic")
    assert refusal(await keyvault.egress(user, call)) == (403, "provider_not_allowed")


async def test_what_arrives_over_the_wire_is_judged_undecoded(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)

    def ask(url: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        connection.request("POST", path, headers=keyvault.proofs(user))
        answer = connection.getresponse()
        told = answer.status, answer.read()
        connection.close()
        return told

    async with serving(keyvault.process.internal) as url:
        fine = await asyncio.to_thread(ask, url, "/internal/egress/openai/v1/models")
        assert fine == (200, b"")
        for path in (
            "/internal/egress/%6fpenai/v1/models",
            "/internal/egress/openai/%2e%2e/v1/models",
            "/internal/%65gress/openai/v1/models",
            "/internal/egress/x%2f..%2f../openai/v1/models",
        ):
            status, body = await asyncio.to_thread(ask, url, path)
            assert (status, b"provider_not_allowed" in body) == (403, True)


@pytest.mark.parametrize(
    "query",
    [
        *("key=x", "alt=sse&key=", "KEY=x", "%6bey=x", "api_key=x", "access_token=x", "a=b&key"),
        *("$key=x", "%24key=x", "oauth_token=x", "$oauth_token=x"),
    ],
)
async def test_a_url_with_a_credential_is_refused(keyvault: Keyvault, query: str) -> None:
    user = a_user()
    await keyvault.put(user)
    answer = await keyvault.egress(user, f"openai/v1/models?{query}")
    assert refusal(answer) == (403, "key_in_url")


@pytest.mark.parametrize("query", ["$httpMethod=DELETE", "alt=sse&%24HTTPMETHOD=GET"])
async def test_a_url_that_names_another_method_is_refused(keyvault: Keyvault, query: str) -> None:
    user = a_user()
    await keyvault.put(user)
    answer = await keyvault.egress(user, f"openai/v1/models?{query}")
    assert refusal(answer) == (403, "provider_not_allowed")


async def test_other_queries_pass(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    odd = ("$=", "", "&&", "=", "%ff=%fe", "a=%00")
    for query in ("alt=sse", "$alt=sse", "limit=1&monkey=1", *odd):
        assert (await keyvault.egress(user, f"openai/v1/models?{query}")).status_code == 200


def forged(keyvault: Keyvault, user: Any, **parts: Any) -> str:
    """A grant that differs from a good one in the given parts."""
    now = int(time.time())
    own = keyvault.service("chat")._key.current()
    assert own is not None
    key = parts.pop("key", own)
    header = {"alg": "ES256", "typ": "grant+jwt", "kid": own.kid} | parts.pop("header", {})
    claims = {
        "iss": "chat",
        "aud": "keyvault",
        "sub": str(user),
        "provider": "openai",
        "req": "request-1",
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid7()),
    } | parts
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(header, claims, key, algorithms=["ES256"])


async def test_the_forgers_tool_makes_good_grants(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    headers = keyvault.proofs(user) | {"x-companion-grant": forged(keyvault, user)}
    assert (await keyvault.egress(user, headers=headers)).status_code == 200


FORGERIES: dict[str, Callable[[Keyvault, Any], str]] = {
    "none at all": lambda *_: "",
    "noise": lambda *_: "a.b.c",
    "not latin": lambda *_: "\xe4.\xff.\x80",
    "access token": lambda k, u: k.around.mint.token(u),
    "service token": lambda k, _: k.service("chat").token_for("keyvault"),
    "long expired": lambda k, u: forged(k, u, exp=int(time.time()) - 700),
    "too long": lambda k, u: forged(k, u, exp=int(time.time()) + 3600),
    "without end": lambda k, u: forged(k, u, exp=None),
    "for another service": lambda k, u: forged(k, u, aud="billing"),
    "signed by a stranger": lambda k, u: forged(
        k, u, key=ECKey.generate_key("P-256", {"kid": "chat"})
    ),
    "in another service's name": lambda k, u: forged(k, u, iss="voice"),
    "by an unknown service": lambda k, u: forged(k, u, header={"kid": "nobody"}),
    "without id": lambda k, u: forged(k, u, jti=None),
    "without user": lambda k, u: forged(k, u, sub=None),
    "for no user": lambda k, u: forged(k, u, sub="everybody"),
    "without provider": lambda k, u: forged(k, u, provider=None),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_grant_that_is_none_opens_nothing(keyvault: Keyvault, name: str) -> None:
    user = a_user()
    await keyvault.put(user)
    token = FORGERIES[name](keyvault, user).encode("latin-1")
    headers: Any = keyvault.proofs(user) | {"x-companion-grant": token}
    assert refusal(await keyvault.egress(user, headers=headers)) == (401, "grant_invalid")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What the route writes into its log."""
    logger = CapturingLogger()
    monkeypatch.setattr(egress, "log", logger)
    return logger


def refused_uses(peer: str, provider: str, outcome: str) -> float:
    labels = {"peer": peer, "provider": provider, "outcome": outcome}
    return REGISTRY.get_sample_value("companion_keyvault_key_uses_total", labels) or 0


async def test_a_forged_grant_rings_the_alarm_and_names_nobody(
    keyvault: Keyvault, told: CapturingLogger
) -> None:
    user, before = a_user(), refused_uses("none", "none", "grant_invalid")
    stranger = ECKey.generate_key("P-256", {"kid": "chat"})
    proofs = keyvault.proofs(user) | {"x-companion-grant": forged(keyvault, user, key=stranger)}

    await keyvault.egress(user, headers=proofs | {"x-request-id": "request-7"})

    assert refused_uses("none", "none", "grant_invalid") == before + 1
    (line,) = told.calls
    assert (line.method_name, line.args) == ("warning", ("grant_refused",))
    assert line.kwargs == {
        "peer": "none",
        "code": "grant_invalid",
        "reason": "The service token is not valid.",
        "request_id": "request-7",
    }


async def test_a_grant_that_comes_late_is_no_attack_and_tells_whose_it_was(
    keyvault: Keyvault, told: CapturingLogger
) -> None:
    """What waits while a keyvault stands still is answered late, all of it at once."""
    user, forgeries = a_user(), refused_uses("none", "none", "grant_invalid")
    await keyvault.put(user)
    before = refused_uses("chat", "none", "grant_expired")
    late = forged(keyvault, user, exp=int(time.time()) - 60)
    proofs = keyvault.proofs(user) | {"x-companion-grant": late}
    assert refusal(await keyvault.egress(user, headers=proofs)) == (401, "grant_expired")
    assert refused_uses("chat", "none", "grant_expired") == before + 1
    assert refused_uses("none", "none", "grant_invalid") == forgeries
    (line,) = told.calls
    assert (line.kwargs["peer"], line.kwargs["code"]) == ("chat", "grant_expired")


async def test_a_replay_and_another_users_grant_ring_it_with_whose_grant_it_was(
    keyvault: Keyvault, told: CapturingLogger
) -> None:
    user, other = a_user(), a_user()
    await keyvault.put(user)
    replayed = keyvault.proofs(user, request_id="request-8")
    stolen = keyvault.proofs(user, request_id="request-9", token_of=other)
    codes = ("grant_replayed", "not_your_key")
    before = [refused_uses("chat", "openai", code) for code in codes]

    await keyvault.egress(user, headers=replayed)
    assert told.calls == []
    await keyvault.egress(user, headers=replayed)
    await keyvault.egress(user, headers=stolen)

    assert [refused_uses("chat", "openai", code) for code in codes] == [n + 1 for n in before]
    key = keyvault.service("chat")._key.current()
    assert key is not None
    for line, code, proofs, request_id in zip(
        told.calls, codes, (replayed, stolen), ("request-8", "request-9"), strict=True
    ):
        assert (line.method_name, line.args) == ("warning", ("grant_refused",))
        grant = jwt.decode(proofs["x-companion-grant"], key)
        assert line.kwargs == {
            "peer": "chat",
            "code": code,
            "grant_id": grant.claims["jti"],
            "user_id": str(user),
            "request_id": request_id,
        }


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "e" * 9000])
async def test_a_user_who_is_not_signed_in_is_not_here(keyvault: Keyvault, token: str) -> None:
    user = a_user()
    await keyvault.put(user)
    headers = keyvault.proofs(user) | {"x-companion-user": token}
    assert refusal(await keyvault.egress(user, headers=headers)) == (401, "unauthenticated")


async def test_an_expired_session_opens_nothing(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    expired = keyvault.around.mint.token(user, lifetime_seconds=-60)
    headers = keyvault.proofs(user) | {"x-companion-user": expired}
    assert refusal(await keyvault.egress(user, headers=headers)) == (401, "unauthenticated")


async def test_no_answer_ever_redirects(keyvault: Keyvault) -> None:
    user = a_user()
    for call in ("", "openai", "openai/", "openai/v1/models/", "%2f%2felsewhere.test/"):
        assert not 300 <= (await keyvault.egress(user, call)).status_code < 400
    bare = await keyvault.internal.post("/internal/egress", headers=keyvault.proofs(user))
    assert bare.status_code == 404


async def test_a_broken_seal_is_no_key(keyvault: Keyvault, database: Database) -> None:
    user = a_user()
    await keyvault.put(user)
    await database.execute(
        "update provider_key set envelope = set_byte(envelope, 40, get_byte(envelope, 40) # 1) "
        "where owner_id = $1",
        user,
    )
    answer = await keyvault.egress(user)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    lines = (await keyvault.get(user, "/keys/audit")).json()["data"]
    assert lines[0]["kind"] == "not_opened"


async def test_a_secret_moved_between_users_by_a_writer_of_the_database_opens_nothing(
    keyvault: Keyvault, database: Database
) -> None:
    rich, thief = a_user(), a_user()
    await keyvault.put(rich, "secret-of-the-rich-one-0123")
    await keyvault.put(thief, "secret-of-the-thief-01234")
    await database.execute(
        """
        update provider_key t set envelope = r.envelope, data_key_id = r.data_key_id
        from provider_key r where t.owner_id = $1 and r.owner_id = $2
        """,
        thief,
        rich,
    )
    assert (await keyvault.egress(thief)).status_code == 500


async def test_refusals_are_counted_by_the_route_and_not_by_the_path(keyvault: Keyvault) -> None:
    marker = f"marker-{uuid4().hex}"
    await keyvault.egress(a_user(), f"openai/v1/{marker}")
    metrics = (await keyvault.internal.get("/metrics")).text
    assert 'route="/internal/egress/{call:path}"' in metrics
    assert marker not in metrics
