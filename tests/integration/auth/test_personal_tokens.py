"""Personal tokens: what is kept, the doors for their owners, and the door of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis

from services.auth.actions.disable_account import DisableAccount, EnableAccount
from services.auth.actions.repeat_ended_sessions import RepeatEndedSessions
from services.auth.actions.revoke_personal_token import RevokePersonalToken
from services.auth.domain.errors import TooManyPersonalTokens
from services.auth.domain.origin import NOWHERE
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId, TokenText
from services.auth.domain.user import Role, User
from services.auth.storage.personal_tokens import SqlPresentedTokens
from services.auth.storage.unit_of_work import News, SqlWork
from shared.clock import SystemClock
from shared.db.database import Database
from shared.errors import SessionEnded
from shared.http.caller import RemoteKeys
from shared.ids import UserId
from shared.news.ended_sessions import EndedSessions
from shared.tokens import Identity, TokenVerifier
from shared.valkey import open_cache
from tests.support.auth import (
    NOON,
    Account,
    HeldKeys,
    RunningAuth,
    a_user,
    some_signing_keys,
)
from tests.support.auth_personal_tokens import a_personal_token
from tests.support.tokens import AUDIENCE, ISSUER
from tests.support.waiting import until_locked_out

NewWork = Callable[[], SqlWork]
DAY = timedelta(days=1)
DOOR = "/internal/personal-tokens/exchange"
KEY_HEADERS = ("x-api-key", "x-goog-api-key", "xi-api-key")
ISSUED_FIELDS = {"id", "name", "scopes", "hint", "token", "created_at", "expires_at"}
LISTED_FIELDS = ISSUED_FIELDS - {"token"} | {"last_used_at", "client_id"}


async def kept(new_work: NewWork, owner: User, *tokens: PersonalToken) -> None:
    async with new_work() as work:
        await work.users.add(owner)
        for token in tokens:
            await work.personal_tokens.add(token)


def somebody(**parts: Any) -> User:
    return a_user(f"user{uuid4().hex[:12]}", **parts)


async def test_a_token_comes_back_as_it_went_with_its_owner(
    new_work: NewWork, database: Database
) -> None:
    owner = somebody(tier="pro", role=Role.BILLING)
    token, text = a_personal_token(owner, at=NOON, scopes=["chat", "usage:write"], name="Größe")
    token = replace(token, last_used_at=NOON + DAY, client_id="c" * 24)
    await kept(new_work, owner, token)
    async with new_work() as work:
        assert await work.personal_tokens.get(token.id) == token
        assert await work.personal_tokens.get(PersonalTokenId(uuid4())) is None
    presented = SqlPresentedTokens(database)
    shown = await presented.by_hash(text.hash)
    assert shown is not None
    assert (shown.token, shown.owner) == (token, owner)
    assert await presented.by_hash(TokenText.made().hash) is None


async def test_live_ones_are_listed_and_counted(new_work: NewWork) -> None:
    owner, other = somebody(), somebody()
    tokens = [a_personal_token(owner, at=NOON, lifetime=DAY)[0] for _ in range(4)]
    await kept(new_work, other, a_personal_token(other, at=NOON)[0])
    await kept(new_work, owner, *tokens)
    async with new_work() as work:
        kept_ = work.personal_tokens
        await kept_.revoke(tokens[0].id, NOON)
        newest = [tokens[3], tokens[2], tokens[1]]
        assert list(await kept_.live_of(owner.id, NOON, before=None, most=9)) == newest
        assert list(await kept_.live_of(owner.id, NOON, before=None, most=1)) == newest[:1]
        before = newest[0].id
        assert list(await kept_.live_of(owner.id, NOON, before=before, most=9)) == newest[1:]
        assert await kept_.count_live(owner.id, NOON) == 3
        assert await kept_.count_live(owner.id, NOON + DAY) == 0


async def test_the_first_revocation_and_the_latest_use_stay(
    new_work: NewWork, database: Database
) -> None:
    owner = somebody()
    token, text = a_personal_token(owner, at=NOON)
    await kept(new_work, owner, token)
    presented = SqlPresentedTokens(database)
    for moment in (NOON + DAY, NOON):
        await presented.note_use(token.id, moment)
        async with new_work() as work:
            await work.personal_tokens.revoke(token.id, moment)
    shown = await presented.by_hash(text.hash)
    assert shown is not None
    assert shown.token.revoked_at == shown.token.last_used_at == NOON + DAY


async def test_old_ones_are_forgotten_in_pieces(new_work: NewWork) -> None:
    owner = somebody()
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    tokens = [a_personal_token(owner, at=long_ago, lifetime=DAY)[0] for _ in range(3)]
    tokens.append(
        replace(a_personal_token(owner, at=NOON)[0], revoked_at=long_ago)  # revoked, not expired
    )
    live = a_personal_token(owner, at=NOON)[0]
    await kept(new_work, owner, *tokens, live)
    async with new_work() as work:
        before = long_ago + 2 * DAY
        assert [await work.personal_tokens.forget_before(before, most=3) for _ in range(3)] == [
            *(3, 1, 0)
        ]
        assert await work.personal_tokens.get(live.id) == live


async def test_an_accounts_end_is_its_tokens_end(new_work: NewWork, database: Database) -> None:
    owner = somebody()
    token, text = a_personal_token(owner, at=NOON)
    await kept(new_work, owner, token)
    await database.execute("delete from user_account where id = $1", owner.id)
    assert await SqlPresentedTokens(database).by_hash(text.hash) is None


async def test_a_look_up_reads_one_row_of_each_table(new_work: NewWork, database: Database) -> None:
    """By the plan that PostgreSQL makes when it is not tempted by small tables."""
    from services.auth.storage.personal_tokens import _BY_HASH

    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local enable_seqscan = off")
        rows = await connection.fetch("explain " + _BY_HASH, b"x" * 32)
    plan = "\n".join(row[0] for row in rows)
    assert "uq_personal_token_token_hash" in plan
    assert "Seq Scan" not in plan, plan


# --- its owner's doors


@dataclass(frozen=True, slots=True)
class Desk:
    """The doors, as a signed-in owner and as the gateway."""

    auth: RunningAuth
    owner: Account

    async def issue(self, **parts: Any) -> httpx.Response:
        wish = {"name": "an editor", "scopes": ["chat"], "expires_in_days": 30} | parts
        return await self.auth.client.post("/auth/tokens", json=wish, headers=self.owner.headers)

    async def issued(self, **parts: Any) -> dict[str, Any]:
        answer = await self.issue(**parts)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def listed(self, **query: Any) -> dict[str, Any]:
        answer = await self.auth.client.get(
            "/auth/tokens", params=query, headers=self.owner.headers
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def revoke(self, token_id: str) -> httpx.Response:
        return await self.auth.client.delete(f"/auth/tokens/{token_id}", headers=self.owner.headers)

    async def exchange(
        self, *headers: tuple[str, str], method: str = "GET", path: str = DOOR
    ) -> httpx.Response:
        return await self.auth.internal.request(method, path, headers=list(headers))

    async def exchanged(self, token: str) -> str:
        answer = await self.exchange(("authorization", f"Bearer {token}"))
        assert answer.status_code == 200, answer.text
        return answer.headers["authorization"].removeprefix("Bearer ")

    async def identity_of(self, access_token: str) -> Identity:
        """As every service reads it."""
        async with httpx.AsyncClient(trust_env=False) as client:
            keys = RemoteKeys(self.auth.settings.jwks_url, client)
            verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
            return await verifier.verify(access_token)


@pytest.fixture
async def desk(auth: RunningAuth) -> Desk:
    return Desk(auth, await auth.account())


async def test_a_token_is_shown_once(desk: Desk) -> None:
    answer = await desk.issue(scopes=["voice", "chat"])
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    issued = answer.json()
    assert set(issued) == ISSUED_FIELDS
    assert issued["scopes"] == ["chat", "voice"]
    assert issued["token"].startswith("ttc_")
    assert issued["hint"] == issued["token"][-4:]
    created, expires = (datetime.fromisoformat(issued[f]) for f in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=30)
    listed = await desk.listed()
    assert [set(one) for one in listed["data"]] == [LISTED_FIELDS]
    assert issued["token"] not in str(listed)
    assert listed["data"][0]["last_used_at"] is None


async def test_the_database_does_not_hold_it(desk: Desk, database: Database) -> None:
    issued = await desk.issued()
    rows = await database.fetch("select * from personal_token where id = $1", UUID(issued["id"]))
    secret = issued["token"][4:-6]
    assert secret not in repr([dict(row) for row in rows])
    audit = await database.fetch("select * from audit_event")
    assert secret not in repr([dict(row) for row in audit])


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"scopes": ["keys"]}, "scope_not_grantable"),
        ({"scopes": ["chat", "account"]}, "scope_not_grantable"),
        ({"scopes": ["usage:write"]}, "scope_not_grantable"),
        ({"scopes": ["billing"]}, "scope_not_grantable"),
        ({"scopes": []}, "invalid_request"),
        ({"scopes": "chat"}, "invalid_request"),
        ({"scopes": ["chat"] * 11}, "invalid_request"),
        ({"name": ""}, "invalid_request"),
        ({"name": " "}, "invalid_token_name"),
        ({"name": "a\0b"}, "invalid_token_name"),
        ({"name": "x" * 101}, "invalid_request"),
        ({"expires_in_days": 0}, "invalid_request"),
        ({"expires_in_days": 366}, "invalid_request"),
        ({"expires_in_days": None}, "invalid_request"),
        ({"expires_in_days": True}, "invalid_request"),
        ({"expires_in_days": 1.5}, "invalid_request"),
        ({"token": "ttc_mine"}, "invalid_request"),
    ],
)
async def test_a_wish_that_cannot_be_is_explained(
    desk: Desk, parts: dict[str, Any], code: str
) -> None:
    answer = await desk.issue(**parts)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert (await desk.listed())["data"] == []


async def test_a_list_comes_in_pages(desk: Desk) -> None:
    ids = [(await desk.issued(name=f"tool {n}"))["id"] for n in range(3)][::-1]
    first = await desk.listed(limit=2)
    rest = await desk.listed(limit=2, cursor=first["next_cursor"])
    assert [one["id"] for one in first["data"] + rest["data"]] == ids
    assert rest["next_cursor"] is None


async def test_of_many_requests_at_once_no_more_than_fifty_succeed(
    desk: Desk, new_work: NewWork
) -> None:
    owner = a_user(id=UserId(desk.owner.id))
    async with new_work() as work:
        for _ in range(48):
            await work.personal_tokens.add(
                a_personal_token(owner, at=datetime.now(UTC), lifetime=DAY)[0]
            )
    answers = await asyncio.gather(*(desk.issue() for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, *[409] * 6]
    refusals = {answer.json().get("code") for answer in answers if answer.status_code == 409}
    assert refusals == {TooManyPersonalTokens.code}


async def test_anothers_token_looks_absent(desk: Desk) -> None:
    issued = await desk.issued()
    stranger = Desk(desk.auth, await desk.auth.account())
    for token_id in (issued["id"], str(uuid4())):
        answer = await stranger.revoke(token_id)
        assert (answer.status_code, answer.json()["code"]) == (404, "personal_token_not_found")
    assert (await stranger.listed())["data"] == []
    assert (await desk.revoke(issued["id"])).status_code == 204
    assert (await desk.revoke(issued["id"])).status_code == 404
    assert (await desk.listed())["data"] == []


# --- the gateway's door


async def test_the_gateway_gets_an_access_token_and_what_to_drop(desk: Desk) -> None:
    issued = await desk.issued(scopes=["chat", "voice"])
    answer = await desk.exchange(("authorization", f"Bearer {issued['token']}"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
    removed = answer.headers["x-envoy-auth-headers-to-remove"].split(", ")
    assert sorted(removed) == sorted(KEY_HEADERS)
    identity = await desk.identity_of(await desk.exchanged(issued["token"]))
    assert identity.user_id == desk.owner.id
    assert identity.scopes == {"chat", "voice"}
    assert (identity.sign_in_id, identity.role) == (UUID(issued["id"]), "member")
    assert identity.methods == {"pat"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
async def test_it_is_asked_with_the_requests_own_method(desk: Desk, method: str) -> None:
    token = (await desk.issued())["token"]
    answer = await desk.exchange(("authorization", f"Bearer {token}"), method=method)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "place",
    [
        lambda t: [("authorization", f"bearer {t}")],
        lambda t: [("authorization", f"Bearer   {t}")],
        lambda t: [("x-api-key", t)],
        lambda t: [("x-goog-api-key", t)],
        lambda t: [("xi-api-key", t)],
        lambda t: [("authorization", f"Bearer {t}"), ("x-api-key", t)],
        lambda t: [("authorization", f"Bearer {t}"), ("x-api-key", "")],
        lambda t: [("authorization", ""), ("x-api-key", t)],
        lambda t: [("authorization", "  "), ("xi-api-key", t), ("x-api-key", " ")],
    ],
)
async def test_the_token_may_come_where_any_sdk_puts_it(
    desk: Desk, place: Callable[[str], Sequence[tuple[str, str]]]
) -> None:
    token = (await desk.issued())["token"]
    assert (await desk.exchange(*place(token))).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        lambda t, o: [],
        lambda t, o: [("authorization", t)],
        lambda t, o: [("authorization", f"Basic {t}")],
        lambda t, o: [("authorization", f"Bearer {t}x")],
        lambda t, o: [("authorization", f"Bearer {t[:-1]}")],
        lambda t, o: [("authorization", f"Bearer {t * 160}")],
        lambda t, o: [("authorization", f"Bearer {TokenText.made().text}")],
        lambda t, o: [("authorization", f"Bearer {t}, Bearer {o}")],
        lambda t, o: [("authorization", f"Bearer {t}"), ("authorization", f"Bearer {o}")],
        lambda t, o: [("authorization", f"Bearer {t}"), ("x-api-key", o)],
        lambda t, o: [("x-goog-api-key", t), ("x-api-key", o)],
        lambda t, o: [("authorization", "Bearer eyJ"), ("x-api-key", t)],
        lambda t, o: [("authorization", "Bearer"), ("x-api-key", t)],
        lambda t, o: [("authorization", ""), ("x-api-key", t), ("xi-api-key", o)],
        lambda t, o: [("authorization", ""), ("x-api-key", "")],
        lambda t, o: [("x-api-key", f"Bearer {t}")],
    ],
)
async def test_anything_else_is_refused_in_one_way(
    desk: Desk, headers: Callable[[str, str], Sequence[tuple[str, str]]]
) -> None:
    token, other = [(await desk.issued())["token"] for _ in range(2)]
    answer = await desk.exchange(*headers(token, other))
    assert (answer.status_code, answer.json()["code"]) == (401, "personal_token_refused")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    assert token not in answer.text
    assert "authorization" not in answer.headers


async def test_a_revoked_expired_or_locked_out_one_gets_the_same_refusal(
    desk: Desk, database: Database
) -> None:
    documents = []
    revoked, expired, last = [await desk.issued() for _ in range(3)]
    tokens = [one["token"] for one in (revoked, expired, last)]
    for token in tokens:
        await desk.exchanged(token)
    await desk.revoke(revoked["id"])
    await database.execute(
        "update personal_token set expires_at = now() where id = $1", UUID(expired["id"])
    )
    await database.execute("update user_account set is_active = false where id = $1", desk.owner.id)
    for token in [*tokens, TokenText.made().text]:
        answer = await desk.exchange(("authorization", f"Bearer {token}"))
        assert answer.status_code == 401
        documents.append(answer.json() | {"request_id": None})
    assert documents == [documents[0]] * 4


async def test_a_use_shows_in_the_list(desk: Desk) -> None:
    token = (await desk.issued())["token"]
    first = await desk.exchanged(token)
    used = (await desk.listed())["data"][0]["last_used_at"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(used)) < timedelta(seconds=10)
    assert await desk.exchanged(token) == first, "services remember tokens that they have seen"
    assert (await desk.listed())["data"][0]["last_used_at"] == used


async def test_the_public_port_does_not_exchange(desk: Desk) -> None:
    token = (await desk.issued())["token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await desk.auth.client.get(DOOR, headers=headers)).status_code == 404
    assert (await desk.auth.me(token)).status_code == 401


@pytest.mark.parametrize("scopes", [["chat", "voice", "billing:read"]])
async def test_what_it_becomes_opens_no_door_of_the_account(desk: Desk, scopes: list[str]) -> None:
    access = await desk.exchanged((await desk.issued(scopes=scopes))["token"])
    headers = {"authorization": f"Bearer {access}"}
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 1}
    calls = [
        ("GET", "/auth/me", None),
        ("PATCH", "/auth/me", {"username": "mallory"}),
        ("GET", "/auth/sessions", None),
        ("DELETE", f"/auth/sessions/{uuid4()}", None),
        ("GET", "/auth/tokens", None),
        ("POST", "/auth/tokens", wish),
        ("DELETE", f"/auth/tokens/{uuid4()}", None),
        ("POST", "/auth/logout", None),
    ]
    for method, path, body in calls:
        answer = await desk.auth.client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path


class TakenBackMeanwhile(EndedSessions):
    """Valkey, while an account is unlocked between the look and the telling."""

    def __init__(self, cache: Redis, unlock: Callable[[], Awaitable[None]]) -> None:
        super().__init__(cache)
        self._unlock = unlock

    async def repeat(self, all_ended_lately: Iterable[UUID]) -> None:
        await self._unlock()
        await super().repeat(all_ended_lately)


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_a_token_of_an_unlocked_account_opens_sockets_at_once(
    new_work: NewWork, cache_url: str, meanwhile: bool
) -> None:
    owner, clock = somebody(), SystemClock()
    token, _ = a_personal_token(owner, at=clock.now(), scopes=["chat"])
    await kept(new_work, owner, token)

    async def unlock() -> None:
        await EnableAccount(new_work, clock)(owner.username.text)

    async with open_cache(cache_url) as cache:
        sessions = EndedSessions(cache)
        await DisableAccount(new_work, clock)(owner.username.text)
        with pytest.raises(SessionEnded):
            await sessions.check(token.id)
        if meanwhile:
            repeat = RepeatEndedSessions(new_work, TakenBackMeanwhile(cache, unlock), clock)
            await repeat()
        else:
            await unlock()
        await sessions.check(token.id)
        await RepeatEndedSessions(new_work, sessions, clock)()
        await sessions.check(token.id)


async def test_what_is_revoked_while_its_account_is_unlocked_stays_ended(
    new_work: NewWork, cache_url: str, database: Database
) -> None:
    owner, clock = somebody(), SystemClock()
    revoked, good = [a_personal_token(owner, at=clock.now(), scopes=["chat"])[0] for _ in range(2)]
    await kept(new_work, owner, revoked, good)
    await DisableAccount(new_work, clock)(owner.username.text)
    async with new_work() as work:
        assert await work.personal_tokens.get(revoked.id) is not None
        await work.personal_tokens.revoke(revoked.id, clock.now())
        await work.ended_credentials.add([revoked.id], of=owner.id, at=clock.now())
        unlocking = asyncio.create_task(EnableAccount(new_work, clock)(owner.username.text))
        await until_locked_out(database)
    await unlocking
    await only_is_ended(new_work, cache_url, revoked, good)


async def only_is_ended(
    new_work: NewWork, cache_url: str, ended: PersonalToken, good: PersonalToken
) -> None:
    """At once, and also after all was told again."""
    clock = SystemClock()
    async with open_cache(cache_url) as cache:
        sessions = EndedSessions(cache)
        for _ in range(2):
            await sessions.check(good.id)
            with pytest.raises(SessionEnded):
                await sessions.check(ended.id)
            await RepeatEndedSessions(new_work, sessions, clock)()


class EndedMeanwhile(EndedSessions):
    """Valkey, while a token is revoked and told before another's news of it arrives."""

    def __init__(self, cache: Redis, end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(cache)
        self._end = end

    async def take_back(self, session_ids: Iterable[UUID]) -> None:
        if ids := list(session_ids):
            await self._end()
        await super().take_back(ids)


@pytest.mark.parametrize("by", ["unlock", "repeat"])
async def test_what_ends_just_before_it_is_told_as_good_stays_ended(
    new_work: NewWork, cache_url: str, database: Database, news: News, by: str
) -> None:
    owner, clock = somebody(), SystemClock()
    revoked, good = [a_personal_token(owner, at=clock.now(), scopes=["chat"])[0] for _ in range(2)]
    await kept(new_work, owner, revoked, good)
    await DisableAccount(new_work, clock)(owner.username.text)
    login = owner.username.text

    async def revoke() -> None:
        await RevokePersonalToken(new_work, clock)(revoked.id, by=owner.id, origin=NOWHERE)

    async with open_cache(cache_url) as cache:
        late = EndedMeanwhile(cache, revoke)
        if by == "unlock":
            told = replace(news, ended_sessions=late)
            keys = HeldKeys(some_signing_keys())
            await EnableAccount(lambda: SqlWork(database, told, keys), clock)(login)
        else:

            class Both(EndedMeanwhile):
                async def repeat(self, all_ended_lately: Iterable[UUID]) -> None:
                    await super().repeat(all_ended_lately)
                    if not unlocked:
                        unlocked.append(login)
                        await EnableAccount(new_work, clock)(login)

            unlocked: list[str] = []
            await RepeatEndedSessions(new_work, Both(cache, revoke), clock)()
    await only_is_ended(new_work, cache_url, revoked, good)
