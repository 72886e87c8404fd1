"""Organisations' keys through keyvault's doors, with auth on the other side."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.keyvault.actions import Actions
from services.keyvault.domain.organisation import SeatNews
from services.keyvault.storage.unit_of_work import SqlWork
from services.keyvault.tasks.on_organisation import end
from services.keyvault.tasks.on_seat import assigned, released
from services.keyvault.wiring import wire
from shared.clients.auth import AuthOrganisations
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.organisation import OrganisationDeleted
from shared.events.seat import SeatAssigned, SeatReleased
from shared.identity import Peers
from shared.ids import UserId
from tests.integration.keyvault.harness import SECRET, Keyvault, Surroundings, a_user, running
from tests.support.problems import code_of
from tests.support.tokens import identity_of, serving

OWN = "marked-own-0123456789-qrstuv"


@dataclass
class StandInAuth:
    """What auth's internal port says about members."""

    peers: Peers
    roles: dict[tuple[UUID, UUID], str] = field(default_factory=dict)
    failing: int | None = None

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        caller = self.peers.service_of(headers["authorization"].removeprefix("Bearer "))
        assert caller == "keyvault"
        _, _, _, organisation, _, user = scope["path"].split("/")
        role = self.roles.get((UUID(organisation), UUID(user)))
        status: int = 404
        body: dict[str, Any] = {"code": "member_not_found"}
        if self.failing is not None:
            status, body = self.failing, {"code": "route_not_found"}
        elif role is not None:
            status, body = 200, {"role": role, "may_manage_keys": role in ("owner", "admin")}
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@dataclass
class Firm:
    """An organisation with an owner and a seated member, in a running keyvault."""

    keyvault: Keyvault
    auth: StandInAuth
    id: UUID = field(default_factory=uuid4)
    owner: UserId = field(default_factory=a_user)
    member: UserId = field(default_factory=a_user)

    def __post_init__(self) -> None:
        self.auth.roles[self.id, self.owner] = "owner"
        self.auth.roles[self.id, self.member] = "member"

    async def call(
        self, method: str, path: str = "", *, by: UUID | None = None, **parts: Any
    ) -> httpx.Response:
        headers = self.keyvault.around.mint.headers(by or self.owner, org=str(self.id))
        return await self.keyvault.public.request(
            method, f"/keys/organisations/{self.id}{path}", headers=headers, **parts
        )

    async def put(self, key: str = SECRET, provider: str = "openai") -> None:
        answer = await self.call("PUT", f"/{provider}", json={"api_key": key})
        assert answer.status_code == 202, answer.text

    async def used_by(
        self, user: UUID, *, request_id: str = "request-1", **claims: Any
    ) -> httpx.Response:
        """A call of chat for a user who has a seat here, as their token says."""
        proofs = self.keyvault.proofs(user, request_id=request_id)
        claims = {"org": str(self.id), "org_seated": True, **claims}
        proofs["x-companion-user"] = self.keyvault.around.mint.token(user, **claims)
        return await self.keyvault.egress(user, headers=proofs)


@pytest.fixture(scope="module")
async def auth(around: Surroundings) -> AsyncIterator[tuple[StandInAuth, str]]:
    stand_in = StandInAuth(Peers.from_file("auth", around.identities / "trusted.json"))
    async with serving(stand_in) as url:
        yield stand_in, url


@pytest.fixture(scope="module")
async def with_auth(around: Surroundings, auth: tuple[StandInAuth, str]) -> AsyncIterator[Keyvault]:
    async with running(around, auth_internal_url=auth[1]) as keyvault:
        yield keyvault


@pytest.fixture(scope="module")
async def actions(around: Surroundings) -> AsyncIterator[Actions]:
    """What a worker does on hearing something."""
    async with wire(around.settings()) as wired:
        yield wired.actions


@pytest.fixture
def firm(with_auth: Keyvault, auth: tuple[StandInAuth, str]) -> Firm:
    return Firm(with_auth, auth[0])


def served(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["authorization"].removeprefix("Bearer ")


DOORS = (
    ("GET", ""),
    ("GET", "/audit"),
    ("GET", "/openai"),
    ("PUT", "/openai"),
    ("POST", "/openai/validate"),
    ("DELETE", "/openai"),
)


async def test_a_key_admin_stores_shows_and_withdraws_and_nobody_reads(firm: Firm) -> None:
    firm.auth.roles[firm.id, admin := a_user()] = "admin"
    stored = await firm.call("PUT", "/openai", by=admin, json={"api_key": SECRET})
    assert stored.status_code == 202
    shown = await firm.call("GET", "/openai")
    assert shown.json() == stored.json()
    listed = await firm.call("GET")
    assert listed.json() == {"data": [stored.json()], "next_cursor": None}
    checked = await firm.call("POST", "/openai/validate")
    assert checked.status_code == 202
    trail = await firm.call("GET", "/audit")
    for answer in (stored, shown, listed, checked, trail):
        assert SECRET not in answer.text
        assert answer.headers["cache-control"] == "no-store"
    # It is the organisation's, not theirs.
    assert (await firm.keyvault.get(admin)).json()["data"] == []
    gone = await firm.call("DELETE", "/openai")
    assert (gone.status_code, gone.content) == (204, b"")
    assert code_of(await firm.call("GET", "/openai")) == (404, "key_not_found")
    assert code_of(await firm.used_by(firm.member)) == (404, "key_not_found")
    (newest, *_) = (await firm.call("GET", "/audit")).json()["data"]
    assert (newest["kind"], newest["user_id"]) == ("deleted", str(firm.owner))


@pytest.mark.parametrize("role", ["member", "billing"])
async def test_a_member_without_the_role_does_nothing_whatever_their_token_says(
    firm: Firm, role: str
) -> None:
    await firm.put()
    firm.auth.roles[firm.id, user := a_user()] = role
    headers = firm.keyvault.around.mint.headers(user, org=str(firm.id), org_role="owner")
    for method, path in DOORS:
        answer = await firm.keyvault.public.request(
            method,
            f"/keys/organisations/{firm.id}{path}",
            headers=headers,
            json={"api_key": OWN} if method == "PUT" else None,
        )
        assert code_of(answer) == (403, "organisation_key_admin_required"), (method, path)
    assert served(await firm.used_by(firm.member)) == SECRET


async def test_organisations_never_reach_each_others_keys(
    with_auth: Keyvault, auth: tuple[StandInAuth, str], database: Database
) -> None:
    firms = [Firm(with_auth, auth[0]) for _ in range(3)]
    for number, firm in enumerate(firms):
        await firm.put(f"marked-{number}-0123456789-abcdef")
    for mine, theirs in product(firms, firms):
        if mine is theirs:
            assert served(await mine.used_by(mine.member)) in {
                f"marked-{number}-0123456789-abcdef"
                for number, firm in enumerate(firms)
                if firm is mine
            }
            continue
        for method, path in DOORS:
            body = {"api_key": OWN} if method == "PUT" else None
            answer = await theirs.call(method, path, by=mine.owner, json=body)
            assert code_of(answer) == (404, "organisation_keys_not_found"), (method, path)
        # A row that was moved to another tenant does not open there.
        await database.execute(
            """
            update provider_key k set envelope = o.envelope, data_key_id = o.data_key_id
            from provider_key o where k.owner_id = $1 and o.owner_id = $2
            """,
            mine.id,
            theirs.id,
        )
        assert (await mine.used_by(mine.member)).status_code == 500
        await mine.put(f"marked-x-{firms.index(mine)}-0123456789-abc")
        await mine.put(f"marked-{firms.index(mine)}-0123456789-abcdef")


async def test_ones_own_key_goes_before_the_organisations(firm: Firm) -> None:
    await firm.put()
    assert served(await firm.used_by(firm.member)) == SECRET
    await firm.keyvault.put(firm.member, OWN)
    assert served(await firm.used_by(firm.member)) == OWN
    headers = firm.keyvault.around.mint.headers(firm.member)
    await firm.keyvault.public.delete("/keys/openai", headers=headers)
    assert served(await firm.used_by(firm.member)) == SECRET


@pytest.mark.parametrize(
    "claims", [{"org_seated": False}, {"org": None}, {"org": str(uuid4())}, {"org_seated": "yes"}]
)
async def test_without_a_seat_there_is_no_key(firm: Firm, claims: dict[str, Any]) -> None:
    await firm.put()
    assert code_of(await firm.used_by(firm.member, **claims)) == (404, "key_not_found")


async def test_a_lost_seat_counts_before_the_token_ends(firm: Firm, actions: Actions) -> None:
    await firm.put()
    at = datetime.now(UTC)

    def fact(kind: Any, seconds: float) -> Any:
        event = kind(organisation_id=firm.id, user_id=firm.member)
        return Fact(event, firm.member, "free", time=at + timedelta(seconds=seconds))

    await released([fact(SeatReleased, 1)], actions)
    assert code_of(await firm.used_by(firm.member)) == (404, "key_not_found")
    await assigned([fact(SeatAssigned, 2)], actions)
    assert served(await firm.used_by(firm.member, org_seated=False)) == SECRET
    # What comes late is old news.
    await released([fact(SeatReleased, 1)], actions)
    assert served(await firm.used_by(firm.member)) == SECRET


async def test_the_trail_is_the_key_admins_and_each_member_sees_their_share(
    firm: Firm,
) -> None:
    firm.auth.roles[firm.id, other := a_user()] = "member"
    await firm.put()
    for number in range(3):
        await firm.used_by(firm.member, request_id=f"mine-{number}")
    await firm.used_by(other, request_id="others")
    lines = (await firm.call("GET", "/audit")).json()["data"]
    assert [(line["kind"], line["user_id"], line["request_id"]) for line in lines[:-1]] == [
        ("used", str(other), "others"),
        *(("used", str(firm.member), f"mine-{number}") for number in (2, 1, 0)),
    ]
    assert {line["organisation_id"] for line in lines} == {str(firm.id)}
    own = (await firm.keyvault.get(firm.member, "/keys/audit?limit=2")).json()
    assert own["data"] == lines[1:3]
    rest = await firm.keyvault.get(firm.member, f"/keys/audit?cursor={own['next_cursor']}")
    assert rest.json()["data"] == lines[3:4]


async def test_with_auth_away_nothing_is_managed_and_all_is_used(firm: Firm) -> None:
    await firm.put()
    try:
        for failing in (500, 404, 403):
            firm.auth.failing = failing
            for method, path in DOORS:
                body = {"api_key": OWN} if method == "PUT" else None
                answer = await firm.call(method, path, json=body)
                assert code_of(answer) == (503, "dependency_unavailable"), (failing, method)
            assert served(await firm.used_by(firm.member)) == SECRET
    finally:
        firm.auth.failing = None


async def test_auth_out_of_reach_or_not_named_is_told(around: Surroundings) -> None:
    me = identity_of(around.identities, "keyvault")
    async with httpx.AsyncClient() as client:
        for url in (None, "http://127.0.0.1:1", "http://[broken"):
            with pytest.raises(DependencyUnavailable):
                await AuthOrganisations(client, url, me).may_manage_keys(uuid4(), a_user())


async def test_an_organisation_that_ends_leaves_nothing_and_gets_nothing(
    firm: Firm, database: Database, actions: Actions
) -> None:
    await firm.put()
    await firm.used_by(firm.member)
    event = OrganisationDeleted(organisation_id=firm.id, user_id=firm.owner)
    for _ in range(2):
        await end([Fact(event, firm.id, "free")], actions)
    for table in ("provider_key", "data_key", "audit_entry"):
        sql = f"select from {table} where owner_id = $1"
        assert await database.fetch(sql, firm.id) == [], table
    assert code_of(await firm.used_by(firm.member)) == (404, "key_not_found")
    late = await firm.call("PUT", "/openai", json={"api_key": SECRET})
    assert code_of(late) == (404, "organisation_keys_not_found")
    (told,) = await database.fetch(
        "select envelope from outbox where envelope ->> 'subject' = $1"
        " and envelope ->> 'type' = 'key.revoked'",
        str(firm.id),
    )
    assert told["envelope"]["data"]["organisation_id"] == str(firm.id)


async def test_seats_and_names_are_forgotten(firm: Firm, database: Database) -> None:
    await firm.put()
    await firm.used_by(firm.member)
    now = datetime.now(UTC)
    async with SqlWork(database) as work:
        await work.organisations.note_seats(
            [
                SeatNews(firm.member, firm.id, False, now - timedelta(days=3)),
                SeatNews(firm.owner, firm.id, True, now),
            ]
        )
        await work.organisations.drop_seats(before=now - timedelta(days=1))
        await work.organisations.forget(firm.owner)
        assert await work.audit.unname(firm.member, most=10) == 1
    assert await database.fetch("select from seat where organisation_id = $1", firm.id) == []
    assert (await firm.keyvault.get(firm.member, "/keys/audit")).json()["data"] == []


async def test_a_deleted_users_token_opens_nothing_any_more(firm: Firm, actions: Actions) -> None:
    await firm.put()
    assert served(await firm.used_by(firm.member)) == SECRET
    await actions.forget_user.begin([(firm.member, ErasureId(uuid4()))])
    assert code_of(await firm.used_by(firm.member)) == (404, "key_not_found")
    assert served(await firm.used_by(firm.owner)) == SECRET
