"""Accounts and the mail of their owners: the real doors, the real database, mails in a folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.auth.actions.disable_account import DisableAccount, EnableAccount
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.actions.send_mails import MailOutcome
from services.auth.domain.mail import Mail, MailKind, UnreadableMail
from services.auth.domain.mailed_proof import MailedProof, ProofPurpose, ProofToken
from services.auth.domain.signing_keys import new_signing_keys, parse_signing_keys
from services.auth.domain.user import EmailAddress
from services.auth.providers.breached_passwords import UnusableBreachedList
from services.auth.storage.unit_of_work import News, SqlWork
from services.auth.tasks import listen
from services.auth.wiring import Wired, wire
from shared.clock import SystemClock
from shared.db.database import Database
from shared.events import Fact
from shared.events.mail import MailQueued
from shared.limits.admission import Admissions
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from shared.tiers import NO_TIER
from shared.valkey import open_cache
from tests.support.auth import (
    NOON,
    PASSWORD,
    Account,
    HeldKeys,
    RunningAuth,
    StoppedClock,
    a_user,
    running_auth,
    some_signing_keys,
)
from tests.support.auth_mails import mails_to, text_of, token_in
from tests.support.auth_personal_tokens import a_personal_token
from tests.support.waiting import until_locked_out

NewWork = Callable[[], SqlWork]
NEW = "eleven geese cross a bridge"


@dataclass(frozen=True, slots=True)
class Town:
    """The service, its worker, and the folder in which all mail of the town lies."""

    auth: RunningAuth
    worker: Wired
    folder: Path

    async def post(self, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
        return await self.auth.client.post(path, json=body, **options)

    async def mails(self, address: str) -> list[EmailMessage]:
        """All that was ever sent there."""
        while await self.worker.actions.send_mails.due():
            pass
        return mails_to(self.folder, address)

    async def token(self, address: str) -> str:
        """That of the last mail."""
        return token_in(text_of((await self.mails(address))[-1]))

    async def verify(self, token: str) -> httpx.Response:
        return await self.post("/auth/verify-email", {"token": token})

    async def proven(self) -> Account:
        account = await self.auth.account()
        answer = await self.verify(await self.token(account.email))
        assert answer.status_code == 204, answer.text
        return account


@pytest.fixture(scope="module")
async def town(
    database_url: str, cache_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    folder = directory / "mail"
    async with (
        running_auth(database_url, directory, cache_url=cache_url, mail_folder=folder) as auth,
        wire(auth.settings) as worker,
    ):
        # What other tests have left here is sealed with their keys.
        await worker.database.execute("delete from outgoing_mail")
        yield Town(auth, worker, folder)


async def test_a_registration_is_confirmed_by_mail(town: Town) -> None:
    account = await town.auth.account()
    [mail] = await town.mails(account.email)
    assert mail["Subject"] == "Confirm your e-mail address"
    assert f"“{account.username}”" in text_of(mail)
    token = token_in(text_of(mail))
    assert (await town.auth.me(account.access_token)).json()["email_verified"] is False
    assert (await town.verify(token)).status_code == 204
    assert (await town.auth.me(account.access_token)).json()["email_verified"] is True
    again = await town.verify(token)
    assert (again.status_code, again.json()["code"]) == (422, "proof_refused")
    assert token not in again.text


async def test_the_owner_of_a_taken_address_gets_a_mail_and_the_stranger_the_same_answer(
    town: Town,
) -> None:
    owner = await town.proven()
    answer = await town.auth.register(email=owner.email.upper())
    assert answer.status_code == 201
    fresh = await town.auth.register()
    stranger, new = answer.json()["user"], fresh.json()["user"]
    changing = ("id", "email", "username", "created_at", "updated_at")
    assert {**stranger, **dict.fromkeys(changing)} == {**new, **dict.fromkeys(changing)}
    mail = (await town.mails(owner.email))[-1]
    assert mail["Subject"] == "You have an account already"
    assert "token" not in text_of(mail)
    # The address still leads to its owner; the stranger's account has a username alone.
    assert (await town.auth.login(owner.email)).json()["user"]["id"] == str(owner.id)
    assert (await town.auth.login(stranger["username"])).json()["user"]["id"] == stranger["id"]


async def test_an_address_that_was_proven_elsewhere_meanwhile_is_taken(town: Town) -> None:
    email = f"{uuid4().hex}@example.com"
    tokens = []
    for _ in range(2):
        await town.auth.register(email=email)
        tokens.append(await town.token(email))
    assert (await town.verify(tokens[1])).status_code == 204
    late = await town.verify(tokens[0])
    assert (late.status_code, late.json()["code"]) == (409, "address_taken")


async def test_of_many_who_show_one_token_at_once_one_is_let_in(town: Town) -> None:
    account = await town.auth.account()
    await town.post("/auth/password/forgot", {"email": account.email})
    token = await town.token(account.email)
    body = {"token": token, "new_password": NEW}
    answers = await asyncio.gather(*(town.post("/auth/password/reset", body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [204, *[422] * 5]


async def test_a_forgotten_password_ends_every_session(town: Town) -> None:
    account = await town.auth.account()
    answer = await town.post("/auth/password/forgot", {"email": account.email})
    assert answer.status_code == 202
    mail = (await town.mails(account.email))[-1]
    assert mail["Subject"] == "Choose a new password"
    body = {"token": token_in(text_of(mail)), "new_password": NEW}
    weak = await town.post("/auth/password/reset", {**body, "new_password": "password1234"})
    assert (weak.status_code, weak.json()["code"]) == (422, "password_refused")
    assert (await town.post("/auth/password/reset", body)).status_code == 204
    assert (await town.auth.refresh(account.refresh_token)).status_code == 401
    sensitive = await town.post("/auth/verify-email/resend", {}, headers=account.headers)
    assert sensitive.status_code == 401
    assert (await town.auth.login(account.email)).status_code == 401
    signed_in = await town.auth.login(account.email, NEW)
    assert signed_in.json()["user"]["email_verified"] is True
    assert (await town.mails(account.email))[-1]["Subject"] == "Your password was changed"


async def test_a_changed_password_is_told_by_mail(town: Town) -> None:
    account = await town.auth.account()
    answer = await town.post(
        "/auth/password",
        {"current_password": PASSWORD, "new_password": NEW},
        headers={**account.headers, "user-agent": "a browser"},
    )
    assert answer.status_code == 204
    mail = (await town.mails(account.email))[-1]
    assert mail["Subject"] == "Your password was changed"
    assert "a browser, 127.0.0.1" in text_of(mail)


async def test_an_account_moves_to_an_address_once_it_is_proven(town: Town) -> None:
    account, other = await town.proven(), await town.proven()
    target = f"{uuid4().hex}@example.com"

    async def move(email: str, password: str = PASSWORD) -> httpx.Response:
        body = {"email": email, "password": password}
        return await town.post("/auth/me/email", body, headers=account.headers)

    wrong = await move(target, "a wrong password")
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_password")
    free, taken = await move(target), await move(other.email)
    assert (free.status_code, taken.status_code) == (202, 202)
    assert free.json() == taken.json()
    assert (await town.mails(other.email))[-1]["Subject"] == "You have an account already"
    assert (await town.auth.me(account.access_token)).json()["email"] == account.email
    assert (await town.verify(await town.token(target))).status_code == 204
    assert (await town.auth.me(account.access_token)).json()["email"] == target
    assert (await town.mails(account.email))[-1]["Subject"] == "Your e-mail address was changed"
    assert (await town.auth.login(target)).status_code == 200
    assert (await town.auth.login(account.email)).status_code == 401


async def test_a_second_mail_within_the_minute_is_not_sent(town: Town) -> None:
    account = await town.auth.account()
    for _ in range(3):
        answer = await town.post("/auth/verify-email/resend", {}, headers=account.headers)
        assert (answer.status_code, answer.content) == (204, b"")
    assert len(await town.mails(account.email)) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/verify-email", {"token": "\0"}),
        ("/auth/verify-email", {"token": "\ud83d"}),
        ("/auth/verify-email", {"token": ["a"]}),
        ("/auth/verify-email", {"token": "a" * 5000}),
        ("/auth/password/reset", {"token": "\0", "new_password": NEW}),
        ("/auth/password/reset", {"token": "a", "new_password": "\ud83d" * 20}),
        ("/auth/password/forgot", {"email": "ada"}),
        ("/auth/password/forgot", {"email": "a\0@example.com"}),
        ("/auth/password/forgot", {"email": "ada@example.com\r\nBcc: eve@example.com"}),
        ("/auth/password/forgot", {"email": "ada@example.com", "token": "a"}),
    ],
)
async def test_odd_input_is_the_senders_mistake(
    town: Town, path: str, body: dict[str, Any]
) -> None:
    # In ASCII: a lone surrogate has no UTF-8.
    answer = await town.auth.client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_trail_says_what_was_done_and_from_where(town: Town) -> None:
    account = await town.proven()
    await town.auth.client.patch(
        "/auth/me", json={"username": f"u{uuid4().hex[:9]}"}, headers=account.headers
    )
    rows = await town.worker.database.fetch(
        "select action, address, facts from audit_event e left join audit_origin o"
        " on o.event_id = e.id where e.user_id = $1 order by e.id",
        account.id,
    )
    assert [row["action"] for row in rows] == [
        *("account.registered", "sign_in.begun", "email.verified", "account.renamed")
    ]
    assert {row["address"] for row in rows} == {"127.0.0.1"}
    assert all(account.email not in str(dict(row)) for row in rows)


async def test_no_token_and_no_text_of_a_mail_stands_in_the_database(town: Town) -> None:
    account = await town.auth.account()
    token = await town.token(account.email)
    await town.post("/auth/password/forgot", {"email": account.email})
    [waiting] = await town.worker.database.fetch(
        "select * from outgoing_mail where recipient = $1", account.email
    )
    assert b"user_id" not in waiting["sealed_facts"]
    proofs = await town.worker.database.fetch(
        "select * from mailed_proof where user_id = $1", account.id
    )
    assert len(proofs) == 1
    assert token not in str([dict(row) for row in proofs])
    outbox = await town.worker.database.fetch("select envelope from outbox")
    assert not any(account.email in str(row["envelope"]) for row in outbox)


async def test_where_it_is_needed_an_unproven_address_signs_nobody_in(
    town: Town, database_url: str, cache_url: str, tmp_path: Path
) -> None:
    async with (
        running_auth(
            database_url,
            tmp_path,
            cache_url=cache_url,
            mail_folder=town.folder,
            signing_keys_file=town.auth.settings.signing_keys_file,
            require_verified_email=True,
        ) as strict,
    ):
        user = (await strict.register()).json()["user"]
        token = await town.token(user["email"])
        refused, wrong = [
            await strict.login(user["email"], password)
            for password in (PASSWORD, "a wrong password")
        ]
        assert (refused.status_code, refused.json()["code"]) == (401, "wrong_credentials")
        assert {**refused.json(), "request_id": 0} == {**wrong.json(), "request_id": 0}
        # It was sent one within the hour already.
        assert len(await town.mails(user["email"])) == 1
        await town.verify(token)
        assert (await strict.login(user["email"])).status_code == 200


async def test_the_worker_sends_what_it_is_told_of(town: Town) -> None:
    user = (await town.auth.register()).json()["user"]
    consumer = Consumer(listen, town.worker.actions, town.worker.database)
    [row] = await town.worker.database.fetch(
        "select envelope from outbox where stream = 'mail.queued.free'"
        " and envelope->>'subject' = $1",
        user["id"],
    )
    event = MailQueued.model_validate(row["envelope"]["data"])
    fact = Fact(event=event, subject=UUID(user["id"]), tier="free", source="auth")
    epoch = uuid4()
    batch = batches.to_wire("auth", epoch, [fact.sent_as(epoch, 1).to_wire()])
    for _ in range(2):
        await consumer.receive("mail.queued", batch)
    assert len(mails_to(town.folder, user["email"])) == 1


async def test_a_mail_is_sent_by_one_of_many_workers(town: Town) -> None:
    user = (await town.auth.register()).json()["user"]
    actions = town.worker.actions
    [row] = await town.worker.database.fetch(
        "select id from outgoing_mail where recipient = $1", user["email"]
    )
    outcomes = await asyncio.gather(*(actions.send_mails([row["id"]]) for _ in range(8)))
    assert sum(outcome[MailOutcome.SENT] for outcome in outcomes) == 1


@pytest.mark.parametrize("kind", ["verify_email", "reset_password", "change_email"])
async def test_a_mail_to_an_account_that_goes_right_now_has_nothing_to_send(
    town: Town, database: Database, kind: str
) -> None:
    account = await town.auth.account()
    await town.mails(account.email)
    user = a_user(id=account.id, email=EmailAddress.parse(account.email))
    mail = Mail.with_proof(MailKind(kind), user, SystemClock().now())
    async with town.worker.actions.send_mails.unit_of_work() as work:
        await work.mails.add(mail, to=user)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("delete from user_account where id = $1", account.id)
        sending = asyncio.ensure_future(town.worker.actions.send_mails([mail.id]))
        await until_locked_out(database, unless=sending.done)
    assert await sending == {MailOutcome.NOTHING_TO_SEND: 1}


async def test_a_mail_whose_key_is_gone_can_not_be_claimed(database: Database, news: News) -> None:
    now = SystemClock().now()
    mail = Mail.make(MailKind.REFRESH_REUSED, EmailAddress("ada@example.com"), now)
    async with SqlWork(database, news, HeldKeys(some_signing_keys())) as work:
        await work.mails.add(mail)
    other = parse_signing_keys(json.dumps(new_signing_keys()))
    with pytest.raises(UnreadableMail):
        async with SqlWork(database, news, HeldKeys(other)) as work:
            await work.mails.claim(mail.id, now, until=now)
    async with SqlWork(database, news, HeldKeys(some_signing_keys())) as work:
        claimed = await work.mails.claim(mail.id, now, until=now + timedelta(minutes=5))
        assert claimed is not None
        assert (claimed.kind, claimed.recipient, claimed.attempts) == (mail.kind, mail.recipient, 1)
        await work.mails.remove(mail.id)


async def test_a_mail_of_a_newer_release_waits_for_who_knows_its_kind(
    database: Database, news: News
) -> None:
    now = SystemClock().now()
    mail = Mail.make(MailKind.REFRESH_REUSED, EmailAddress("ada@example.com"), now)
    async with SqlWork(database, news, HeldKeys(some_signing_keys())) as work:
        await work.mails.add(mail)
    await database.execute("update outgoing_mail set kind = 'newer' where id = $1", mail.id)
    later = now + timedelta(minutes=5)
    async with SqlWork(database, news, HeldKeys(some_signing_keys())) as work:
        assert await work.mails.claim(mail.id, now, until=later) is None
    # It does not stand in the way of others either.
    [row] = await database.fetch("select due_at from outgoing_mail where id = $1", mail.id)
    assert row["due_at"] == later
    await database.execute("delete from outgoing_mail where id = $1", mail.id)


async def test_proofs_are_kept_and_forgotten(town: Town, database: Database, news: News) -> None:
    account = await town.auth.account()
    now = SystemClock().now()
    purposes = frozenset({ProofPurpose.RESET_PASSWORD})
    user_id = account.id
    old, new = ProofToken.new(), ProofToken.new()
    async with SqlWork(database, news, HeldKeys(some_signing_keys())) as work:
        user = await work.users.get(user_id)  # type: ignore[arg-type]
        assert user is not None
        for token, at in ((old, now - timedelta(days=1)), (new, now)):
            await work.mailed_proofs.add(
                MailedProof.issued(token, ProofPurpose.RESET_PASSWORD, user.id, user.email, at)
            )
        assert await work.mailed_proofs.find(old.hash, purposes, now) is None
        assert await work.mailed_proofs.find(new.hash, purposes, now) is not None
        assert await work.mailed_proofs.newest_at(user.id, ProofPurpose.RESET_PASSWORD) == now
        assert await work.mailed_proofs.forget_before(now, most=1000) >= 1
        await work.mailed_proofs.void(user.id, {ProofPurpose.RESET_PASSWORD}, now)
        assert await work.mailed_proofs.take(new.hash, purposes, now) is None


async def test_a_breached_list_that_can_not_be_used_stops_the_start(
    database_url: str, tmp_path: Path
) -> None:
    with pytest.raises(UnusableBreachedList):
        async with running_auth(
            database_url, tmp_path, breached_passwords_file=tmp_path / "missing"
        ):
            pass


async def test_a_lock_from_the_console_ends_everything_at_once(
    auth: RunningAuth, new_work: NewWork, cache_url: str
) -> None:
    account = await auth.account()
    issued = await auth.client.post(
        "/auth/tokens",
        json={"name": "a tool", "scopes": ["chat"], "expires_in_days": 30},
        headers=account.headers,
    )
    token = {"authorization": f"Bearer {issued.json()['token']}"}
    door = "/internal/personal-tokens/exchange"
    assert (await auth.internal.get(door, headers=token)).status_code == 200
    await DisableAccount(new_work, SystemClock())(account.username)
    renamed = await auth.client.patch(
        "/auth/me", json={"username": f"{account.username}x"}, headers=account.headers
    )
    assert (renamed.status_code, renamed.json()["code"]) == (401, "session_ended")
    assert (await auth.refresh(account.refresh_token)).json()["code"] == "refresh_refused"
    refused = await auth.login(account.email)
    assert (refused.status_code, refused.json()["code"]) == (403, "account_inactive")
    assert (await auth.internal.get(door, headers=token)).status_code == 401
    # Nor does admission let anybody in, whatever an access token claims.
    async with open_cache(cache_url) as cache:
        admissions = Admissions(cache)
        assert await admissions.tier_told_of(str(account.id)) == NO_TIER
        await EnableAccount(new_work, SystemClock())(account.username)
        assert await admissions.tier_told_of(str(account.id)) == "free"
    assert (await auth.login(account.email)).status_code == 200
    assert (await auth.internal.get(door, headers=token)).status_code == 200


async def test_a_lock_that_is_repeated_is_told_anew(new_work: NewWork, database: Database) -> None:
    user = a_user(f"u{uuid4().hex[:12]}", password="of nobody")
    token, _ = a_personal_token(user, at=NOON)
    async with new_work() as work:
        await work.users.add(user)
        await work.personal_tokens.add(token)
    for hours in (0, 1):
        clock = StoppedClock(NOON + timedelta(hours=hours))
        await DisableAccount(new_work, clock)(user.username.text)
        [row] = await database.fetch(
            "select ended_at from ended_credential where id = $1", token.id
        )
        assert row["ended_at"] == clock.now()


async def test_a_forgotten_account_is_told_of(new_work: NewWork, database: Database) -> None:
    opened = datetime(2000, 1, 1, tzinfo=UTC)
    user = replace(a_user(f"u{uuid4().hex[:12]}"), created_at=opened)
    async with new_work() as work:
        await work.users.add(user)
    await ForgetExpired(new_work, StoppedClock(opened + timedelta(days=8)))()
    assert await database.fetch("select 1 from user_account where id = $1", user.id) == []
    [erasure] = await database.fetch("select id from erasure where user_id = $1", user.id)
    told = await database.fetch(
        "select 1 from outbox where envelope->'data'->>'erasure_id' = $1", str(erasure["id"])
    )
    assert len(told) == 1
