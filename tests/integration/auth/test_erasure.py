"""Deleting and exporting an account on the real PostgreSQL, with peers that answer or don't."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.auth.actions.forget_user import ForgetUser
from services.auth.actions.note_forgotten import Forgotten, NoteForgotten
from services.auth.actions.remind_services import RemindServices
from services.auth.domain.audit import AuditEntry
from services.auth.domain.erasure import SERVICES, Erasure, Receipt
from services.auth.domain.errors import ExportUnavailable, TooManyExports
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose
from services.auth.domain.origin import Origin
from services.auth.domain.user import EmailAddress
from services.auth.providers.account_collector import CollectedParts, PeerCollector
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.identity import Peers
from shared.ids import UserId, uuid7
from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.tokens import identity_of, serving

PEERS = ("keyvault", "chat", "voice", "billing")
NewWork = Callable[[], SqlWork]


async def erasure_of(new_work: NewWork, receipt: str) -> Erasure:
    async with new_work() as work:
        found = await work.erasures.find(Receipt(receipt).hash)
    assert found is not None
    return found


async def look_up(auth: RunningAuth, receipt: str) -> httpx.Response:
    return await auth.client.post("/auth/erasures/lookup", json={"receipt": receipt})


async def test_a_deleted_account_is_gone_at_once_and_its_address_free(
    auth: RunningAuth, database: Database
) -> None:
    account = await auth.account()
    other_device = (await auth.login(account.email)).json()

    answer = await auth.client.delete("/auth/me", headers=account.headers)

    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"receipt", "requested_at", "voices_left"}
    assert answer.json()["voices_left"] is None, "there is no voice here that could tell"
    for table, column in (("user_account", "id"), ("sign_in", "user_id")):
        rows = await database.fetch(f"select 1 from {table} where {column} = $1", account.id)
        assert rows == []
    for token in (account.refresh_token, other_device["refresh_token"]):
        assert (await auth.refresh(token)).status_code == 401
    assert (await auth.login(account.email)).json()["code"] == "wrong_credentials"
    # Its access tokens open nothing that matters, on either device.
    for token in (account.access_token, other_device["access_token"]):
        headers = {"authorization": f"Bearer {token}"}
        again = await auth.client.delete("/auth/me", headers=headers)
        assert (again.status_code, again.json()["code"]) == (401, "session_ended")
    again = await auth.register(email=account.email, username=account.username)
    assert again.status_code == 201
    assert again.json()["user"]["id"] != str(account.id)


async def test_the_receipt_shows_who_has_forgotten_the_user(
    auth: RunningAuth, new_work: NewWork
) -> None:
    account = await auth.account()
    receipt = (await auth.client.delete("/auth/me", headers=account.headers)).json()["receipt"]

    shown = (await look_up(auth, receipt)).json()
    assert shown["completed_at"] is None
    assert [one["service"] for one in shown["services"]] == list(SERVICES)
    assert all(one["forgotten_at"] is None for one in shown["services"])

    erasure, now = await erasure_of(new_work, receipt), datetime.now(UTC)
    note = NoteForgotten(new_work)
    # All at the same moment: none may miss that it is the last one.
    await asyncio.gather(*(note([Forgotten(erasure.id, peer, now)]) for peer in PEERS))
    assert (await look_up(auth, receipt)).json()["completed_at"] is None
    await ForgetUser(new_work, note, SystemClock())(erasure.user_id, erasure.id)
    shown = (await look_up(auth, receipt)).json()
    assert shown["completed_at"] is not None
    assert all(one["forgotten_at"] for one in shown["services"])


async def test_an_unknown_receipt_tells_nothing(auth: RunningAuth) -> None:
    for receipt in ("x" * 43, "\x00", "ä" * 50):
        answer = await look_up(auth, receipt)
        assert (answer.status_code, answer.json()["code"]) == (404, "erasure_not_found")
    assert (await look_up(auth, "x" * 101)).status_code == 422


async def test_devices_and_addresses_go_in_pieces_and_the_trail_stays(
    auth: RunningAuth, database: Database, new_work: NewWork
) -> None:
    account = await auth.account()
    await database.execute(
        "with noted as (insert into audit_event (id, at, action, user_id, actor_id, facts)"
        " select gen_random_uuid(), now(), 'test.done', $1, $1, '{}' from generate_series(1, 1500)"
        " returning id)"
        " insert into audit_origin (event_id, user_id, device, address)"
        " select id, $1, 'a browser', '192.0.2.1' from noted",
        account.id,
    )
    receipt = (await auth.client.delete("/auth/me", headers=account.headers)).json()["receipt"]
    erasure = await erasure_of(new_work, receipt)
    await ForgetUser(new_work, NoteForgotten(new_work), SystemClock())(
        UserId(account.id), erasure.id
    )
    origins = "select 1 from audit_origin where user_id = $1"
    assert await database.fetch(origins, account.id) == []
    trail = await database.fetch("select action from audit_event where user_id = $1", account.id)
    assert len(trail) > 1500
    assert "account.deleted" in {row["action"] for row in trail}


async def test_a_guess_that_ends_after_the_deletion_leaves_no_address(
    auth: RunningAuth, database: Database, new_work: NewWork
) -> None:
    account, other = await auth.account(), await auth.account()
    await auth.client.delete("/auth/me", headers=account.headers)
    at, origin = SystemClock().now(), Origin("a browser", "192.0.2.1")

    async with new_work() as work:
        for user_id in (account.id, other.id):
            guess = AuditEntry(uuid7(), at, "sign_in.failed", UserId(user_id), None, origin=origin)
            await work.audit.note(guess)

    rows = await database.fetch("select user_id from audit_origin where address = '192.0.2.1'")
    assert [row["user_id"] for row in rows if row["user_id"] in (account.id, other.id)] == [
        other.id
    ]
    noted = "select 1 from audit_event where user_id = $1 and action = 'sign_in.failed'"
    assert len(await database.fetch(noted, account.id)) == 1


async def test_mails_and_invitations_to_a_proven_address_go_and_to_a_claimed_one_stay(
    auth: RunningAuth, database: Database
) -> None:
    mails = "select 1 from outgoing_mail where recipient = $1"
    for proven, left in ((True, 0), (False, 1)):
        account = await auth.account()
        await database.execute("delete from outgoing_mail where recipient = $1", account.email)
        await database.execute(
            "insert into outgoing_mail"
            " (id, kind, recipient, sealed_facts, created_at, attempts, due_at)"
            " values ($1, 'verify_email', $2, '', now(), 0, now() + interval '1 day')",
            uuid4(),
            account.email,
        )
        await database.execute(
            "update user_account set email_verified = $2 where id = $1", account.id, proven
        )
        answer = await auth.client.delete("/auth/me", headers=account.headers)
        assert answer.status_code == 202
        assert len(await database.fetch(mails, account.email)) == left
        await database.execute("delete from outgoing_mail where recipient = $1", account.email)


_ACCEPTED = """
insert into invitation (id, organisation_id, email, role, token_hash, invited_by, created_at,
    expires_at, accepted_at, withdrawn_at, accepted_by)
values ($1, $2, $3, 'member', $4, $5, now(), now() + interval '1 day', now(), null, $6)
"""


async def test_no_invitation_of_theirs_is_left_at_whatever_address(
    auth: RunningAuth, database: Database
) -> None:
    ada, ben = await auth.account(), await auth.account()
    firm = (
        await auth.client.post(
            "/auth/organisations", headers=ada.headers, json={"name": "Analytical"}
        )
    ).json()
    # Accepted at an address that ben had before; sent by ben; nothing to do with ben.
    for email, by, accepted_by in (
        ("before@example.com", ada.id, ben.id),
        ("guest@example.com", ben.id, None),
        ("other@example.com", ada.id, None),
    ):
        token = uuid4().bytes * 2
        await database.execute(_ACCEPTED, uuid4(), UUID(firm["id"]), email, token, by, accepted_by)
    assert (await auth.client.delete("/auth/me", headers=ben.headers)).status_code == 202
    left = await database.fetch(
        "select email from invitation where organisation_id = $1", UUID(firm["id"])
    )
    assert [row["email"] for row in left] == ["other@example.com"]


async def test_a_sign_in_at_the_moment_of_deletion_is_refused_or_ended(
    auth: RunningAuth, database: Database
) -> None:
    account = await auth.account()
    attempts = [asyncio.create_task(auth.login(account.email)) for _ in range(4)]
    deleted = await auth.client.delete("/auth/me", headers=account.headers)
    answers = await asyncio.gather(*attempts)

    assert deleted.status_code == 202
    assert {answer.status_code for answer in answers} <= {200, 401}
    for answer in answers:
        if answer.status_code == 200:
            assert (await auth.refresh(answer.json()["refresh_token"])).status_code == 401
    assert await database.fetch("select 1 from sign_in where user_id = $1", account.id) == []


async def test_a_silent_service_is_asked_again(
    auth: RunningAuth, database: Database, new_work: NewWork
) -> None:
    account = await auth.account()
    await auth.client.delete("/auth/me", headers=account.headers)
    asked = (
        "select 1 from outbox where envelope->>'type' = 'user.deleted'"
        " and envelope->>'subject' = $1"
    )

    @dataclass
    class Later:
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(minutes=11)

    await RemindServices(new_work, Later()).very_late()
    assert len(await database.fetch(asked, str(account.id))) == 2


# The export.


@dataclass
class PeerServices:
    """Four internal doors behind one address, each told what to answer."""

    peers: dict[str, Peers]
    url: str = ""
    callers: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        _, service, _, _, user_id, _ = scope["path"].split("/")
        token = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        self.callers.append(f"{self.peers[service].service_of(token)}->{service}")
        trouble = self.broken.get(service, "")
        status = 500 if trouble == "fails" else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        body = json.dumps(self.bodies.get(service, {"user": user_id})).encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if trouble == "stalls":
            await asyncio.sleep(0.6)
        if trouble == "breaks":
            raise ConnectionAbortedError
        await send({"type": "http.response.body", "body": b""})

    def urls(self) -> dict[str, str]:
        return {service: f"{self.url}/{service}" for service in PEERS}


@pytest.fixture
async def services(auth: RunningAuth) -> AsyncIterator[PeerServices]:
    trusted = auth.settings.identity_trust_file
    services = PeerServices({name: Peers.from_file(name, trusted) for name in PEERS})
    async with serving(services) as services.url:
        yield services


@asynccontextmanager
async def collecting(
    auth: RunningAuth, services: PeerServices, **parts: Any
) -> AsyncIterator[PeerCollector]:
    me = identity_of(auth.settings.identity_trust_file.parent, "auth")
    async with httpx.AsyncClient(trust_env=False) as client:
        yield PeerCollector(client, {**services.urls(), **parts.pop("urls", {})}, me, **parts)


async def own(text: bytes = b'{"account":1}') -> AsyncIterator[bytes]:
    yield text


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_all_parts_become_one_document(auth: RunningAuth, services: PeerServices) -> None:
    # More than memory may hold of it.
    services.bodies["chat"] = {"sessions": ["ä" * 1_000] * 3_000}
    user_id = UserId(uuid4())
    async with collecting(auth, services) as collector:
        collected = await collector.collect(user_id, own(), at=NOW)
        document = json.loads(b"".join([chunk async for chunk in collected.chunks()]))
    assert list(document) == ["exported_at", "auth", *PEERS]
    assert document["exported_at"] == "2026-11-24T12:00:00Z"
    assert document["auth"] == {"account": 1}
    assert document["chat"] == services.bodies["chat"]
    assert document["voice"] == {"user": str(user_id)}
    assert sorted(services.callers) == sorted(f"auth->{peer}" for peer in PEERS)


@pytest.mark.parametrize("trouble", ["fails", "stalls", "breaks"])
@pytest.mark.parametrize("culprit", ["keyvault", "billing"])
async def test_one_service_in_trouble_means_no_export_at_all(
    auth: RunningAuth, services: PeerServices, trouble: str, culprit: str
) -> None:
    services.broken[culprit] = trouble
    async with collecting(auth, services, patience_seconds=0.3) as collector:
        with pytest.raises(ExportUnavailable) as refused:
            await collector.collect(UserId(uuid4()), own(), at=NOW)
    assert refused.value.facts == {"service": culprit}


async def test_who_would_wait_too_long_for_an_export_is_told_so(
    auth: RunningAuth, services: PeerServices
) -> None:
    services.broken["chat"] = "stalls"
    async with collecting(
        auth, services, patience_seconds=1.0, longest_wait_seconds=0.1
    ) as collector:

        async def one() -> None:
            collected = await collector.collect(UserId(uuid4()), own(), at=NOW)
            assert [chunk async for chunk in collected.chunks()]

        results = await asyncio.gather(*(one() for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(result, TooManyExports) for result in results) == 2
        services.broken.clear()
        await one()


async def test_a_document_takes_a_place_until_it_was_read_or_let_go_of(
    auth: RunningAuth, services: PeerServices
) -> None:
    async with collecting(auth, services) as collector:

        async def one(user_id: UserId) -> CollectedParts:
            return await collector.collect(user_id, own(), at=NOW)

        documents = [await one(UserId(uuid4())) for _ in range(16)]
        with pytest.raises(TooManyExports):
            await one(UserId(uuid4()))
        # One is read, one never was begun, one is left in the middle.
        assert [chunk async for chunk in documents[0].chunks()]
        del documents[1]
        reading = documents[1].chunks()
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined] # it is a generator
        documents += [await one(UserId(uuid4())) for _ in range(3)]
        with pytest.raises(TooManyExports):
            await one(UserId(uuid4()))


async def test_one_user_leaves_room_for_others(auth: RunningAuth, services: PeerServices) -> None:
    ada, grace = UserId(uuid4()), UserId(uuid4())
    async with collecting(auth, services) as collector:
        kept = [await collector.collect(ada, own(), at=NOW) for _ in range(2)]
        with pytest.raises(TooManyExports):
            await collector.collect(ada, own(), at=NOW)
        kept.append(await collector.collect(grace, own(), at=NOW))
        services.broken["chat"] = "fails"
        for _ in range(3):
            with pytest.raises(ExportUnavailable):
                await collector.collect(grace, own(), at=NOW)
        services.broken.clear()
        kept.append(await collector.collect(grace, own(), at=NOW))


async def test_what_auth_keeps_itself_must_come_in_time_too(
    auth: RunningAuth, services: PeerServices
) -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(10)
        yield b""

    async with collecting(auth, services, patience_seconds=0.3) as collector:
        with pytest.raises(ExportUnavailable) as refused:
            await collector.collect(UserId(uuid4()), never(), at=NOW)
    assert refused.value.facts == {"service": "auth"}


async def test_a_service_whose_address_is_unknown_or_dead_is_named(
    auth: RunningAuth, services: PeerServices
) -> None:
    for url in (None, "http://127.0.0.1:1"):
        async with collecting(auth, services, urls={"voice": url}) as collector:
            with pytest.raises(ExportUnavailable) as refused:
                await collector.collect(UserId(uuid4()), own(), at=NOW)
        assert refused.value.facts == {"service": "voice"}


@pytest.fixture
async def exporting(
    auth: RunningAuth,
    services: PeerServices,
    database_url: str,
    cache_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningAuth]:
    """Another auth process on the same database, whose peers are there."""
    directory = tmp_path_factory.mktemp("exporting")
    settings = {f"{name}_internal_url": url for name, url in services.urls().items()}
    async with running_auth(
        database_url,
        directory,
        cache_url=cache_url,
        signing_keys_file=auth.settings.signing_keys_file,
        **settings,
    ) as running:
        trusted = running.settings.identity_trust_file
        services.peers = {name: Peers.from_file(name, trusted) for name in PEERS}
        yield running


async def test_a_person_downloads_all_and_no_secret_of_theirs_is_in_it(
    exporting: RunningAuth, database: Database
) -> None:
    account = await exporting.account()
    await exporting.login(account.email, device="a second device")

    answer = await exporting.client.get("/auth/me/export", headers=account.headers)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["auth"]["account"]["email"] == account.email
    assert document["auth"]["organisation"] is None
    assert {one["device"] for one in document["auth"]["sessions"]} >= {"a second device"}
    assert document["chat"] == {"user": str(account.id)}
    rows = await database.fetch("select password_hash from user_account where id = $1", account.id)
    assert document["auth"]["second_factor"]["totp"] is False
    assert (document["auth"]["pending_email"], document["auth"]["invitations"]) == (None, [])
    for secret in (PASSWORD, account.refresh_token, account.access_token, rows[0][0]):
        assert secret not in answer.text
    assert await times_exported(database, account.id) == 1


async def times_exported(database: Database, user_id: UUID) -> int:
    noted = await database.fetch(
        "select 1 from audit_event where user_id = $1 and action = 'account.exported'", user_id
    )
    return len(noted)


async def test_who_asks_for_an_exports_head_alone_has_nothing_collected(
    exporting: RunningAuth, services: PeerServices, database: Database
) -> None:
    account = await exporting.account()
    got = await exporting.client.get("/auth/me/export", headers=account.headers)
    services.broken["chat"] = "fails"
    head = await exporting.client.head("/auth/me/export", headers=account.headers)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-disposition", "cache-control"):
        assert head.headers[name] == got.headers[name]
    assert "content-length" not in head.headers
    assert await times_exported(database, account.id) == 1
    assert (await exporting.client.head("/auth/me/export")).status_code == 401


async def test_what_waits_and_what_was_done_to_others_is_in_the_export(
    exporting: RunningAuth, database: Database, new_work: NewWork
) -> None:
    ada, ben = await exporting.account(), await exporting.account()
    both = "update user_account set email_verified = true where id = any($1::uuid[])"
    await database.execute(both, [ada.id, ben.id])
    now = datetime.now(UTC)
    proof = MailedProof(
        token_hash=b"h" * 32,
        purpose=ProofPurpose.CHANGE_EMAIL,
        user_id=UserId(ada.id),
        email=EmailAddress.parse("another@example.com"),
        created_at=now,
        expires_at=now + timedelta(hours=1),
    )
    async with new_work() as work:
        await work.mailed_proofs.add(proof)
    client, founded = exporting.client, {"name": "Analytical"}
    firm = (await client.post("/auth/organisations", headers=ada.headers, json=founded)).json()
    invited = await client.post(
        f"/auth/organisations/{firm['id']}/invitations",
        headers=ada.headers,
        json={"email": ben.email},
    )
    assert invited.status_code == 201, invited.text

    own = (await client.get("/auth/me/export", headers=ada.headers)).json()["auth"]
    assert own["pending_email"] == "another@example.com"
    assert [one["email"] for one in own["invitations"]] == [ben.email]
    acts = {act["action"]: act for act in own["acts"]}
    assert (acts["invitation.sent"]["actor"], acts["invitation.sent"]["user"]) == (
        str(ada.id),
        None,
    )
    assert acts["invitation.sent"]["address"] is not None
    accepted = ("before@example.com", uuid4().bytes * 2, ada.id, ben.id)
    await database.execute(_ACCEPTED, uuid7(), UUID(firm["id"]), *accepted)
    theirs = (await client.get("/auth/me/export", headers=ben.headers)).json()["auth"]
    assert [one["email"] for one in theirs["invitations"]] == ["before@example.com", ben.email]
    assert (theirs["pending_email"], theirs["acts"]) == (None, [])


async def test_what_is_over_and_still_kept_is_in_the_export(exporting: RunningAuth) -> None:
    account, client = await exporting.account(), exporting.client
    await exporting.login(account.email, device="a phone that was lost")
    listed = (await client.get("/auth/sessions", headers=account.headers)).json()["data"]
    [lost] = [one["id"] for one in listed if not one["current"]]
    wish = {"name": "a tool of old", "scopes": ["chat"], "expires_in_days": 1}
    token = (await client.post("/auth/tokens", headers=account.headers, json=wish)).json()
    for over in (f"sessions/{lost}", f"tokens/{token['id']}"):
        assert (await client.delete(f"/auth/{over}", headers=account.headers)).status_code == 204

    answer = await client.get("/auth/me/export", headers=account.headers)
    own = answer.json()["auth"]
    devices = {one["device"]: one for one in own["sessions"]}
    assert devices["a phone that was lost"]["ended_at"] is not None
    assert (devices["tests"]["ended_at"], devices["tests"]["methods"]) == (None, ["pwd"])
    [revoked] = own["personal_tokens"]
    assert (revoked["name"], revoked["revoked_at"] is None) == ("a tool of old", False)
    assert own["account"]["last_signed_in_at"] is not None
    assert token["token"] not in answer.text


async def test_an_export_that_can_not_be_whole_is_a_503_that_names_why(
    exporting: RunningAuth, services: PeerServices
) -> None:
    account = await exporting.account()
    services.broken["chat"] = "fails"
    answer = await exporting.client.get("/auth/me/export", headers=account.headers)
    assert answer.status_code == 503
    problem = answer.json()
    assert (problem["code"], problem["service"]) == ("export_unavailable", "chat")
    assert "retry-after" in answer.headers


async def test_without_a_fresh_proof_nothing_is_deleted_or_shown(
    exporting: RunningAuth, database: Database
) -> None:
    account = await exporting.account()
    await database.execute(
        "update sign_in set authenticated_at = now() - interval '11 minutes' where user_id = $1",
        account.id,
    )
    token = (await exporting.refresh(account.refresh_token)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    for answer in (
        await exporting.client.delete("/auth/me", headers=headers),
        await exporting.client.get("/auth/me/export", headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")
