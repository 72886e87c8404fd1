"""The audit trail through auth's doors; and what must never get into it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.auth.domain.audit import AuditEntry
from services.auth.domain.origin import Origin
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.ids import UserId, uuid7
from tests.support.auth import PASSWORD, Account, RunningAuth
from tests.support.openapi import leaves, operations

NewWork = Callable[[], SqlWork]


async def trail_of(auth: RunningAuth, account: Account, **query: Any) -> dict[str, Any]:
    answer = await auth.client.get("/auth/audit", headers=account.headers, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_owner_reads_what_happened_and_from_where(auth: RunningAuth) -> None:
    account = await auth.account()
    await auth.client.post(
        "/auth/logout",
        headers={
            **account.headers,
            "user-agent": "her phone",
            "x-envoy-external-address": "192.0.2.44",
        },
    )
    newest, *_, oldest = (await trail_of(auth, account))["data"]
    assert set(newest) == {
        *("id", "at", "action", "own", "organisation", "facts", "device", "address")
    }
    assert (newest["action"], newest["own"]) == ("sign_in.ended", True)
    assert (newest["device"], newest["address"]) == ("her phone", "192.0.2.44")
    assert newest["facts"]["reason"] == "signed_out"
    assert newest["at"] >= oldest["at"]
    actions = [entry["action"] for entry in (await trail_of(auth, account))["data"]]
    assert "sign_in.begun" in actions


async def test_a_reused_refresh_token_is_in_the_trail(auth: RunningAuth, new_work: NewWork) -> None:
    account = await auth.account()
    for _ in range(2):
        account_tokens = (await auth.refresh(account.refresh_token)).json()
    second = (await auth.refresh(account_tokens["refresh_token"])).json()
    third = await auth.refresh(second["refresh_token"])
    assert third.status_code == 200
    assert (await auth.refresh(account.refresh_token)).json()["code"] == "refresh_reused"
    newest = (await trail_of(auth, account))["data"][0]
    assert (newest["action"], newest["own"]) == ("sign_in.reused", False)
    assert newest["address"] is not None


async def test_the_trail_is_paged_and_ones_own(auth: RunningAuth, new_work: NewWork) -> None:
    account, other = await auth.account(), await auth.account()
    entries = [
        AuditEntry.of_user("thing.done", UserId(account.id), SystemClock().now(), n=number)
        for number in range(5)
    ]
    async with new_work() as work:
        for entry in entries:
            await work.audit.note(entry)
    first = await trail_of(auth, account, limit=3)
    rest = await trail_of(auth, account, limit=100, cursor=first["next_cursor"])
    assert rest["next_cursor"] is None
    numbers = [one["facts"].get("n") for one in (*first["data"], *rest["data"])]
    assert numbers[:5] == [4, 3, 2, 1, 0]
    assert len({one["id"] for one in (*first["data"], *rest["data"])}) == len(numbers)
    theirs = {entry["id"] for entry in (await trail_of(auth, other))["data"]}
    assert theirs.isdisjoint(str(entry.id) for entry in entries)


async def test_from_where_another_user_acted_is_not_shown(
    auth: RunningAuth, new_work: NewWork
) -> None:
    account = await auth.account()
    entry = AuditEntry(
        uuid7(),
        SystemClock().now(),
        "member.removed",
        UserId(account.id),
        UserId(uuid7()),
        origin=Origin("an admin's laptop", "192.0.2.99"),
    )
    async with new_work() as work:
        await work.audit.note(entry)
    newest = (await trail_of(auth, account))["data"][0]
    assert (newest["action"], newest["own"]) == ("member.removed", False)
    assert (newest["device"], newest["address"]) == (None, None)


async def test_an_organisations_trail_is_for_those_who_run_it(auth: RunningAuth) -> None:
    owner, other = await auth.account(), await auth.account()
    made = await auth.client.post(
        "/auth/organisations", json={"name": "Lamps"}, headers=owner.headers
    )
    assert made.status_code == 201, made.text
    path = f"/auth/organisations/{made.json()['id']}/audit"
    answer = await auth.client.get(path, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    [created] = answer.json()["data"]
    assert (created["action"], created["actor"]) == ("organisation.created", str(owner.id))
    assert set(created) == {"id", "at", "action", "user", "actor", "facts"}
    refused = await auth.client.get(path, headers=other.headers)
    assert (refused.status_code, refused.json()["code"]) == (404, "organisation_not_found")


class Marks:
    """Secrets and names that went through the doors of auth, to be looked for afterwards."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.names: set[str] = set()

    def secret(self) -> str:
        text = f"marked phrase {uuid4().hex}"
        self.secrets.add(text)
        return text

    def name(self) -> str:
        text = f"marked{uuid4().hex[:16]}"
        self.names.add(text)
        return text

    def answered(self, answer: httpx.Response) -> Any:
        """Remember what an answer gave away to its caller alone."""
        if answer.content and answer.headers["content-type"].startswith("application/json"):
            for name, value in leaves(answer.json()):
                kinds = ("token", "secret", "code", "codes", "uri", "receipt")
                if isinstance(value, str) and len(value) > 15 and name.endswith(kinds):
                    self.secrets.add(value)
            return answer.json()
        return None


def held_by(text: str, marks: Iterator[str] | set[str]) -> set[str]:
    """Those marks that a text holds, plainly or as the bytes of a row."""
    lower = text.lower()
    return {m for m in marks if m.lower() in lower or m.encode().hex() in lower}


async def test_no_secret_and_no_name_gets_into_the_trail_the_outbox_or_the_log(
    auth: RunningAuth,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marks = Marks()
    caplog.set_level(logging.DEBUG)
    name, password = marks.name(), marks.secret()
    account = await auth.account(
        email=f"{name}@example.com", username=marks.name(), password=password
    )
    marks.secrets |= {account.access_token, account.refresh_token}
    headers = {**account.headers, "user-agent": "tests"}

    async def call(method: str, path: str, **parts: Any) -> Any:
        answer = await auth.client.request(method, path, headers=headers, **parts)
        assert answer.status_code != 500, answer.text
        return marks.answered(answer)

    for _ in range(3):
        await call("POST", "/auth/login", json={"login": name, "password": marks.secret()})
    wrong = {"login": f"{name}@example.com", "password": marks.secret(), "otp": marks.secret()}
    await call("POST", "/auth/login", json=wrong)
    changed = marks.secret()
    passwords = {"current_password": password, "new_password": changed}
    await call("POST", "/auth/password", json=passwords)
    await call("POST", "/auth/login", json={"login": account.email, "password": changed})
    tokens = {"name": "a script", "scopes": ["chat"], "expires_in_days": 1}
    await call("POST", "/auth/tokens", json=tokens)
    for token in (account.refresh_token, account.refresh_token, marks.secret()):
        await call("POST", "/auth/refresh", json={"refresh_token": token})
    document = (await auth.client.get("/openapi.json")).json()
    swept = 0
    ends = ("/auth/logout", "/auth/me")
    for operation in sorted(operations("auth", document), key=lambda one: one.path in ends):
        path = operation.path
        for parameter in operation.path_parameters:
            path = path.replace(f"{{{parameter}}}", str(uuid7()))
        values = {
            "*": marks.secret(),
            "email": f"{marks.name()}@example.com",
            "username": marks.name(),
            "login": account.email,
            "password": marks.secret(),
        }
        await call(operation.method, path, json=operation.body(values, full=True))
        swept += 1
    assert swept > 8

    trail = await rows_of(database, "audit_event", "audit_link", "audit_unlinked")
    assert str(account.id) in trail
    assert "sign_in.begun" in trail
    told = await rows_of(database, "outbox", "outbox_sent", "inbox", "dead_event")
    log = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    log += capsys.readouterr().out
    assert '"logger":"door"' in log
    for text in (trail, told, log):
        assert held_by(text, marks.secrets | marks.names) == set()
    kept = await rows_of(database, *await tables(database))
    assert held_by(kept, marks.names), "the search itself must find what is there"
    # A name of a device or of a token may be any text; a password never is where names are.
    assert held_by(kept, {password, changed, PASSWORD, account.refresh_token}) == set()


async def rows_of(database: Database, *tables: str) -> str:
    found = []
    for table in tables:
        rows = await database.fetch(f"select to_jsonb(t)::text as row from {table} t")
        found += [row["row"] for row in rows]
    return "\n".join(found)


async def tables(database: Database) -> list[str]:
    rows = await database.fetch("select tablename from pg_tables where schemaname = 'public'")
    return [row["tablename"] for row in rows]
