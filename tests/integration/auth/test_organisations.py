"""Organisations through auth's doors: roles, invitations, and two tenants side by side."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.providers.signing_key_file import SigningKeyFile
from services.auth.storage.unit_of_work import News, SqlWork
from shared.clients.auth import AuthOrganisations
from shared.clock import SystemClock
from shared.db.database import Database
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.subscription import SubscriptionChanged
from shared.http.pages import cursor_of
from shared.ids import UserId
from tests.support.auth import Account, RunningAuth
from tests.support.problems import code_of
from tests.support.tokens import identity_of

ORGANISATION_FIELDS = {
    *("id", "name", "tier", "seats", "seats_taken", "members", "role", "seated"),
    "seats_from_next_period",
    *("created_at", "updated_at"),
}
MEMBER_FIELDS = {"user_id", "username", "email", "role", "seated", "joined_at"}
_NO_MOMENT = "0001-01-01T00:00:00+14:00"  # well-formed, and before all time in UTC
INVITATION_FIELDS = {"id", "email", "role", "invited_by", "created_at", "expires_at"}


@dataclass
class Door:
    """auth's public door, with a way into its mails and its database."""

    auth: RunningAuth
    database: Database
    news: News

    async def person(self) -> Account:
        """Somebody whose address is proven."""
        account = await self.auth.account()
        await self.database.execute(
            "update user_account set email_verified = true where id = $1", account.id
        )
        return account

    async def call(self, who: Account, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.auth.client.request(
            method, f"/auth/{path}", headers=who.headers, json=body
        )

    async def refreshed(self, who: Account) -> Account:
        """The same person with their next tokens."""
        answer = await self.auth.refresh(who.refresh_token)
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        return replace(
            who, access_token=tokens["access_token"], refresh_token=tokens["refresh_token"]
        )

    async def long_proven(self, who: Account) -> Account:
        """The same person, who proved half an hour ago who they are."""
        await self.database.execute(
            "update sign_in set authenticated_at = authenticated_at - interval '30 minutes'"
            " where user_id = $1",
            who.id,
        )
        return await self.refreshed(who)

    async def found(self, owner: Account, *, tier: str = "enterprise", seats: int = 9) -> str:
        """An organisation of the owner's, with what billing would have sold."""
        answer = await self.call(owner, "POST", "organisations", {"name": "Analytical"})
        assert answer.status_code == 201, answer.text
        await self.database.execute(
            "update organisation set tier = $2, seats = $3 where id = $1",
            UUID(answer.json()["id"]),
            tier,
            seats,
        )
        return str(answer.json()["id"])

    async def invite(
        self, firm: str, by: Account, email: str, role: str = "member"
    ) -> httpx.Response:
        body = {"email": email, "role": role}
        return await self.call(by, "POST", f"organisations/{firm}/invitations", body)

    async def mailed_token(self, email: str) -> str:
        [row] = await self.database.fetch(
            "select id from outgoing_mail where recipient = $1 and kind = 'invitation'"
            " order by created_at desc limit 1",
            email,
        )
        keys = SigningKeyFile(self.auth.settings.signing_keys_file)
        soon = datetime.now(UTC) + timedelta(minutes=1)
        async with SqlWork(self.database, self.news, keys) as work:
            mail = await work.mails.claim(row["id"], soon, until=soon)
        assert mail is not None
        return mail.facts["token"]

    async def join(self, firm: str, by: Account, role: str = "member") -> Account:
        """Somebody new who was invited and came."""
        guest = await self.person()
        invited = await self.invite(firm, by, guest.email, role)
        assert invited.status_code == 201, invited.text
        token = await self.mailed_token(guest.email)
        joined = await self.call(guest, "POST", f"invitations/{token}/accept")
        assert joined.status_code == 200, joined.text
        return guest


@pytest.fixture
def door(auth: RunningAuth, database: Database, news: News) -> Door:
    return Door(auth, database, news)


def claims_of(account: Account) -> dict[str, Any]:
    payload = account.access_token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return decoded


async def test_a_founder_sees_what_they_founded(door: Door) -> None:
    ada = await door.person()
    assert (await door.call(ada, "GET", "organisations")).json()["data"] == []
    founded = await door.call(ada, "POST", "organisations", {"name": "Söhne & Co"})
    assert founded.status_code == 201
    organisation = founded.json()
    assert set(organisation) == ORGANISATION_FIELDS
    assert (organisation["name"], organisation["tier"], organisation["role"]) == (
        "Söhne & Co",
        "free",
        "owner",
    )
    assert (organisation["seats"], organisation["seats_taken"], organisation["seated"]) == (
        1,
        1,
        True,
    )
    shown = await door.call(ada, "GET", f"organisations/{organisation['id']}")
    assert shown.json() == organisation
    assert (await door.call(ada, "GET", "organisations")).json() == {
        "data": [organisation],
        "next_cursor": None,
    }
    again = await door.call(ada, "POST", "organisations", {"name": "Another"})
    assert code_of(again) == (409, "in_an_organisation")
    renamed = await door.call(
        ada, "PATCH", f"organisations/{organisation['id']}", {"name": "Difference"}
    )
    assert renamed.json()["name"] == "Difference"


@pytest.mark.parametrize("name", ["", " ", "x ", "a\0b", "\ud800", "x" * 101, None, 7, ["x"]])
async def test_a_name_that_makes_no_sense_is_refused(door: Door, name: Any) -> None:
    ada = await door.person()
    content = json.dumps({"name": name}).encode()
    answer = await door.auth.client.post(
        "/auth/organisations",
        content=content,
        headers={**ada.headers, "content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in {"invalid_organisation_name", "invalid_request"}


async def test_whoever_was_invited_joins_and_their_next_token_says_so(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    ben = await door.person()
    invited = await door.invite(firm, ada, ben.email.upper(), "billing")
    assert set(invited.json()) == INVITATION_FIELDS
    listed = await door.call(ada, "GET", f"organisations/{firm}/invitations")
    assert listed.json()["data"] == [invited.json()]
    token = await door.mailed_token(ben.email)
    assert token not in invited.text + listed.text

    joined = await door.call(ben, "POST", f"invitations/{token}/accept")
    assert joined.json() == {"organisation": firm, "role": "billing", "seated": True}
    me = (await door.call(ben, "GET", "me")).json()
    assert (me["organisation"], me["organisation_role"], me["tier"]) == (
        firm,
        "billing",
        "enterprise",
    )
    # What they are to this installation is another matter.
    assert me["role"] == "member"
    claims = claims_of(await door.refreshed(ben))
    assert (claims["org"], claims["org_role"], claims["role"], claims["tier"]) == (
        firm,
        "billing",
        "member",
        "enterprise",
    )
    assert code_of(await door.call(ben, "POST", f"invitations/{token}/accept"))[0] == 404

    left = await door.call(ben, "DELETE", f"organisations/{firm}/members/{ben.id}")
    assert left.status_code == 204
    claims = claims_of(await door.refreshed(ben))
    assert (claims["org"], claims["org_role"], claims["tier"]) == (None, None, "free")


async def test_an_invitation_is_for_the_proven_owner_of_its_address(door: Door) -> None:
    ada, eve = await door.person(), await door.person()
    firm = await door.found(ada)
    unproven = await door.auth.account()
    await door.invite(firm, ada, unproven.email)
    token = await door.mailed_token(unproven.email)
    path = f"invitations/{token}/accept"
    assert code_of(await door.call(eve, "POST", path)) == (403, "invitation_for_another_address")
    assert code_of(await door.call(unproven, "POST", path)) == (403, "email_not_verified")
    for guess in ("x", "%00", "A" * 43, token[:-1], "é"):
        answer = await door.call(eve, "POST", f"invitations/{guess}/accept")
        assert code_of(answer) == (404, "invitation_not_found")
    assert (await door.call(eve, "POST", f"invitations/{'x' * 201}/accept")).status_code == 422


async def test_without_a_free_seat_nobody_joins(door: Door) -> None:
    ada, ben = await door.person(), await door.person()
    firm = await door.found(ada, seats=1)
    await door.invite(firm, ada, ben.email)
    path = f"invitations/{await door.mailed_token(ben.email)}/accept"
    assert code_of(await door.call(ben, "POST", path)) == (409, "no_seat_left")
    await door.database.execute("update organisation set seats = 2 where id = $1", UUID(firm))
    assert (await door.call(ben, "POST", path)).status_code == 200


async def test_seats_go_and_come_back_with_what_is_paid_for(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada, seats=3)
    ben, cay = await door.join(firm, ada), await door.join(firm, ada)

    async def subscribed(revision: int, tier: str, seats: int, next_seats: int | None) -> None:
        event = SubscriptionChanged(
            user_id=UUID(firm),
            tier_name=tier,
            seats=seats,
            revision=revision,
            organisation_id=UUID(firm),
            next_seats=next_seats,
        )
        keys = SigningKeyFile(door.auth.settings.signing_keys_file)
        follow = FollowSubscriptions(lambda: SqlWork(door.database, door.news, keys), SystemClock())
        await follow([Fact(event=event, subject=UUID(firm), tier=tier)])

    async def seated() -> set[str]:
        page = (await door.call(ada, "GET", f"organisations/{firm}/members")).json()
        return {member["user_id"] for member in page["data"] if member["seated"]}

    everybody = {str(person.id) for person in (ada, ben, cay)}
    before = await door.database.fetch("select user_id, seated_at from membership order by 1")
    await subscribed(1, "free", 1, None)
    assert await seated() == {str(ada.id)}
    [row] = await door.database.fetch(
        "select count(*) from outgoing_mail where kind = 'seat_lost' and recipient = any($1)",
        [ben.email, cay.email],
    )
    assert row["count"] == 2
    await subscribed(2, "enterprise", 4, 3)
    assert await seated() == everybody
    after = await door.database.fetch("select user_id, seated_at from membership order by 1")
    assert after == before
    shown = (await door.call(ada, "GET", f"organisations/{firm}")).json()
    assert (shown["seats"], shown["seats_from_next_period"]) == (4, 3)
    dan = await door.person()
    await door.invite(firm, ada, dan.email)
    path = f"invitations/{await door.mailed_token(dan.email)}/accept"
    refused = await door.call(dan, "POST", path)
    assert code_of(refused) == (409, "no_seat_left")
    assert refused.json()["next_seats"] == 3
    trail = (await door.call(ada, "GET", f"organisations/{firm}/audit")).json()["data"]
    lost = [line for line in trail if line["action"] == "member.unseated"]
    assert {line["user"] for line in lost} == {str(ben.id), str(cay.id)}
    assert {line["actor"] for line in lost} == {None}


async def test_members_are_listed_page_by_page(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    people = [ada, *[await door.join(firm, ada) for _ in range(2)]]
    path, seen, cursor = f"organisations/{firm}/members?limit=2", [], ""
    for _page in range(2):
        page = (await door.call(ada, "GET", path + cursor)).json()
        assert all(set(member) == MEMBER_FIELDS for member in page["data"])
        seen += [member["user_id"] for member in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [str(person.id) for person in people]
    assert page["next_cursor"] is None
    for bad in (
        "x",
        "é",
        "AAAA",
        "MjAyNi0wMS0wMVQwMDowMDowMB94",
        cursor_of(_NO_MOMENT, UUID(int=7)),
    ):
        answer = await door.call(ada, "GET", f"organisations/{firm}/members?cursor={bad}")
        assert code_of(answer) == (422, "bad_cursor")
        answer = await door.call(ada, "GET", f"organisations/{firm}/invitations?cursor={bad}")
        assert code_of(answer) == (422, "bad_cursor")


async def test_owners_are_made_by_owners_with_a_fresh_proof(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    admin, ben = await door.join(firm, ada, "admin"), await door.join(firm, ada)
    at_ben = f"organisations/{firm}/members/{ben.id}"
    as_admin = await door.call(admin, "PATCH", at_ben, {"role": "owner"})
    assert code_of(as_admin) == (403, "organisation_role_required")
    ada = await door.long_proven(ada)
    for method, path, body in (
        ("PATCH", at_ben, {"role": "owner"}),
        ("POST", f"organisations/{firm}/invitations", {"email": "x@y.example", "role": "owner"}),
        ("DELETE", f"organisations/{firm}", None),
        ("DELETE", f"organisations/{firm}/members/{ada.id}", None),
    ):
        answer = await door.call(ada, method, path, body)
        assert code_of(answer) == (403, "step_up_required"), path
    # What makes no owner needs none.
    assert (await door.call(ada, "PATCH", at_ben, {"role": "admin"})).status_code == 200
    fresh = (await door.auth.login(ada.email)).json()
    ada = replace(ada, access_token=fresh["access_token"])
    assert (await door.call(ada, "PATCH", at_ben, {"role": "owner"})).status_code == 200
    assert (await door.call(ada, "DELETE", f"organisations/{firm}")).status_code == 204
    assert (await door.call(ben, "GET", "me")).json()["organisation"] is None


async def test_the_last_owner_stays(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    await door.join(firm, ada, "admin")
    own = f"organisations/{firm}/members/{ada.id}"
    assert code_of(await door.call(ada, "PATCH", own, {"role": "member"})) == (409, "last_owner")
    assert code_of(await door.call(ada, "DELETE", own)) == (409, "last_owner")


ROUTES = [
    ("GET", "", None),
    ("PATCH", "", {"name": "Mine"}),
    ("DELETE", "", None),
    ("GET", "/members", None),
    ("PATCH", "/members/{member}", {"role": "member"}),
    ("PATCH", "/members/{member}", {"seated": False}),
    ("DELETE", "/members/{member}", None),
    ("GET", "/invitations", None),
    ("POST", "/invitations", {"email": "somebody@example.com", "role": "member"}),
    ("DELETE", "/invitations/{invitation}", None),
]


async def test_an_organisation_is_closed_to_every_other(door: Door) -> None:
    ada, olga, lone = [await door.person() for _ in range(3)]
    firm, other = await door.found(ada), await door.found(olga)
    ben = await door.join(firm, ada, "admin")
    invitation = (await door.invite(firm, ada, "guest@example.com")).json()["id"]
    before = await everything_of(door, ada, firm)

    for stranger in (olga, lone):
        for method, path, body in ROUTES:
            path = path.format(member=ben.id, invitation=invitation)
            theirs = await door.call(stranger, method, f"organisations/{firm}{path}", body)
            made_up = await door.call(stranger, method, f"organisations/{uuid4()}{path}", body)
            assert code_of(theirs) == (404, "organisation_not_found"), (method, path)
            # Not a word differs from what an id gets that never was.
            assert shape_of(theirs) == shape_of(made_up)
    # Nor do ids of another organisation work below one's own.
    for method, path, body in ROUTES:
        if "{" in path:
            path = path.format(member=ben.id, invitation=invitation)
            answer = await door.call(olga, method, f"organisations/{other}{path}", body)
            assert answer.status_code == 404, (method, path)
            assert answer.json()["code"] in {"member_not_found", "invitation_not_found"}

    assert await everything_of(door, ada, firm) == before
    assert (await door.call(olga, "GET", f"organisations/{other}")).json()["members"] == 1


def shape_of(answer: httpx.Response) -> dict[str, Any]:
    changing = ("request_id", "organisation_id")
    return {name: value for name, value in answer.json().items() if name not in changing}


async def everything_of(door: Door, owner: Account, firm: str) -> list[Any]:
    paths = (f"organisations/{firm}", f"organisations/{firm}/members")
    answers = [await door.call(owner, "GET", path) for path in paths]
    answers.append(await door.call(owner, "GET", f"organisations/{firm}/invitations"))
    return [answer.json() for answer in answers]


@pytest.mark.parametrize("role", ["member", "billing"])
async def test_a_small_role_changes_nothing(door: Door, role: str) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    ben = await door.join(firm, ada, role)
    invitation = (await door.invite(firm, ada, "guest@example.com")).json()["id"]
    before = await everything_of(door, ada, firm)
    readable = {"", "/members"} if role == "billing" else {""}
    for method, path, body in ROUTES:
        full = path.format(member=ada.id, invitation=invitation)
        answer = await door.call(ben, method, f"organisations/{firm}{full}", body)
        if method == "GET" and path in readable:
            assert answer.status_code == 200
        else:
            assert code_of(answer) == (403, "organisation_role_required"), (method, path)
    assert await everything_of(door, ada, firm) == before


async def test_no_route_is_open_to_strangers_or_ended_sessions(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    writes = [
        ("POST", "organisations", {"name": "x"}),
        ("POST", f"invitations/{uuid4()}/accept", None),
        *((m, f"organisations/{firm}{p}", b) for m, p, b in ROUTES if m != "GET"),
    ]
    writes = [(m, p.format(member=ada.id, invitation=uuid4()), b) for m, p, b in writes]
    for method, path, body in writes:
        answer = await door.auth.client.request(method, f"/auth/{path}", json=body)
        assert code_of(answer) == (401, "unauthenticated")
    await door.call(ada, "POST", "logout")
    for method, path, body in writes:
        answer = await door.call(ada, method, path, body)
        assert code_of(answer) == (401, "session_ended"), path


async def test_billing_hears_what_somebody_is_now(door: Door) -> None:
    ada, olga = await door.person(), await door.person()
    firm = await door.found(ada)
    ben, mel = await door.join(firm, ada, "billing"), await door.join(firm, ada)
    directory = door.auth.settings.identity_trust_file.parent

    async def ask(user: Account, service: str = "billing") -> httpx.Response:
        token = identity_of(directory, service).token_for("auth")
        return await door.auth.internal.get(
            f"/internal/organisations/{firm}/members/{user.id}",
            headers={"authorization": f"Bearer {token}"},
        )

    assert (await ask(ben)).json() == {
        "organisation_id": firm,
        "user_id": str(ben.id),
        "role": "billing",
        "is_seated": True,
        "may_buy": True,
        "may_manage_keys": False,
        "seats_taken": 3,
    }
    assert (await ask(mel)).json()["may_buy"] is False
    assert (await ask(ada, "keyvault")).json()["may_manage_keys"] is True
    assert code_of(await ask(ada, "chat")) == (403, "forbidden")
    assert code_of(await ask(olga)) == (404, "member_not_found")
    await door.call(ada, "DELETE", f"organisations/{firm}/members/{ben.id}")
    assert code_of(await ask(ben)) == (404, "member_not_found")
    public = await door.call(ada, "GET", f"../internal/organisations/{firm}/members/{mel.id}")
    assert public.status_code == 404


async def test_billings_client_understands_the_answers(door: Door) -> None:
    ada, olga = await door.person(), await door.person()
    firm = UUID(await door.found(ada))
    mel = await door.join(str(firm), ada)
    directory = door.auth.settings.identity_trust_file.parent
    asks = AuthOrganisations(door.auth.internal, "http://auth", identity_of(directory, "billing"))
    assert await asks.may_buy(firm, UserId(ada.id)) is True
    assert await asks.may_buy(firm, UserId(mel.id)) is False
    assert await asks.may_buy(firm, UserId(olga.id)) is None
    as_chat = AuthOrganisations(door.auth.internal, "http://auth/", identity_of(directory, "chat"))
    nowhere = AuthOrganisations(door.auth.internal, None, identity_of(directory, "billing"))
    wrong = AuthOrganisations(door.auth.client, "http://auth", identity_of(directory, "billing"))
    for broken in (as_chat, nowhere, wrong):
        with pytest.raises(DependencyUnavailable):
            await broken.may_buy(firm, UserId(ada.id))


async def test_what_happened_is_in_the_trail(door: Door) -> None:
    ada = await door.person()
    firm = await door.found(ada)
    ben = await door.join(firm, ada)
    await door.call(ada, "PATCH", f"organisations/{firm}/members/{ben.id}", {"role": "admin"})
    await door.call(ada, "DELETE", f"organisations/{firm}/members/{ben.id}")
    rows = await door.database.fetch(
        "select action, user_id, actor_id, facts::text as facts from audit_event"
        " where organisation_id = $1 order by id",
        UUID(firm),
    )
    assert [row["action"] for row in rows] == [
        "organisation.created",
        "invitation.sent",
        "invitation.accepted",
        "member.role_changed",
        "member.removed",
    ]
    assert (rows[-1]["user_id"], rows[-1]["actor_id"]) == (ben.id, ada.id)
    assert not any(ben.email in row["facts"] for row in rows)


async def test_the_link_in_the_mail_leads_to_a_page_that_lets_the_invited_join(door: Door) -> None:
    owner, guest = await door.person(), await door.person()
    firm = await door.found(owner)
    await door.invite(firm, owner, guest.email)
    token = await door.mailed_token(guest.email)
    path = "/oauth/accept-invitation"

    async def press(login: str, password: str, csrf: str) -> httpx.Response:
        typed = {"token": token, "login": login, "password": password, "csrf": csrf}
        return await door.auth.client.post(path, data=typed, headers={"cookie": cookie})

    asked = await door.auth.client.get(path, params={"token": token})
    assert asked.status_code == 200
    cookie = asked.headers["set-cookie"].partition(";")[0]
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', asked.text)
    assert found is not None
    # Looking at it accepts nothing, and neither does a form from elsewhere.
    elsewhere = await press(guest.email, guest.password, "0" * 64)
    assert (elsewhere.status_code, 'role="alert"' in elsewhere.text) == (200, True)
    assert (await door.call(guest, "GET", "organisations")).json()["data"] == []
    other = await door.person()
    for who, password in ((guest, "wrong wrong wrong"), (other, other.password)):
        refused = await press(who.email, password, found[1])
        assert (refused.status_code, 'role="alert"' in refused.text) == (200, True)
    joined = await press(guest.email, guest.password, found[1])
    assert (joined.status_code, "You are a member now" in joined.text) == (200, True)
    [organisation] = (await door.call(guest, "GET", "organisations")).json()["data"]
    assert organisation["id"] == firm
    again = await press(guest.email, guest.password, found[1])
    assert (again.status_code, 'role="alert"' in again.text) == (200, True)
