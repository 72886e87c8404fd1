"""Issuing, listing, revoking and exchanging personal tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc import jwt

from services.auth.actions.disable_client import DisableClient
from services.auth.actions.exchange_personal_token import ExchangePersonalToken
from services.auth.actions.issue_personal_token import IssuePersonalToken
from services.auth.actions.list_personal_tokens import ListPersonalTokens
from services.auth.actions.revoke_personal_token import RevokePersonalToken
from services.auth.domain.errors import (
    AccountGone,
    PersonalTokenNotFound,
    PersonalTokenRefused,
    ScopeNotHeld,
    SigningKeysUnavailable,
    TooManyPersonalTokens,
)
from services.auth.domain.exchanged_tokens import ExchangedTokens
from services.auth.domain.membership import Membership, OrganisationRole
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.origin import Origin
from services.auth.domain.personal_token import PersonalToken, PersonalTokenId, TokenText
from services.auth.domain.sign_in import SignIn, SignInId
from services.auth.domain.signing_keys import new_signing_keys, parse_signing_keys
from services.auth.domain.user import Role, User
from shared.errors import SessionEnded
from tests.support.auth import (
    NOON,
    HeldKeys,
    Memory,
    StoppedClock,
    a_sign_in,
    a_user,
    an_issuer,
    some_signing_keys,
)
from tests.support.auth_oauth import CALLBACK
from tests.support.auth_personal_tokens import MemoryPersonalTokens


def a_client() -> OAuthClient:
    return OAuthClient.registered("An extension", [CALLBACK], NOON)


ADA, GRACE = a_user("ada"), a_user("grace")
HERE = Origin("an editor", "198.51.100.7")
MONTH = timedelta(days=30)


@dataclass
class Desk:
    """All four verbs on one memory."""

    memory: Memory = field(default_factory=lambda: Memory().keep(ADA, GRACE))
    clock: StoppedClock = field(default_factory=StoppedClock)
    keys: HeldKeys = field(default_factory=lambda: HeldKeys(some_signing_keys()))

    def __post_init__(self) -> None:
        self.presented = MemoryPersonalTokens(self.memory)
        self.exchange = ExchangePersonalToken(
            self.presented, an_issuer(self.keys), ExchangedTokens(), self.clock
        )
        self.revoke = RevokePersonalToken(self.memory.work, self.clock)
        self.list = ListPersonalTokens(self.memory.work, self.clock)

    async def issue(self, owner: User = ADA, **parts: Any) -> tuple[PersonalToken, TokenText]:
        wish: dict[str, Any] = {"name": "an editor", "scopes": ["chat"], "lifetime": MONTH}
        if "within" not in parts:
            sign_in = a_sign_in(owner, at=self.clock.now())
            self.memory.keep(sign_in)
            parts["within"] = sign_in.id
        issue = IssuePersonalToken(self.memory.work, self.clock)
        return await issue(owner.id, **(wish | parts), origin=HERE)

    def sign_in_of_client(self, client: OAuthClient, *scopes: str) -> SignIn:
        self.memory.oauth_clients[client.client_id] = client
        sign_in = a_sign_in(ADA, client_id=client.client_id, scopes=frozenset(scopes))
        self.memory.keep(sign_in)
        return sign_in

    def claims(self, access_token: str) -> dict[str, Any]:
        assert self.keys.keys is not None
        key = self.keys.keys.active
        return dict(jwt.decode(access_token, key, algorithms=["ES256"]).claims)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_token_is_kept_without_its_text(desk: Desk) -> None:
    token, text = await desk.issue()
    assert desk.memory.personal_tokens == {token.id: token}
    assert token.token_hash == text.hash
    assert text.text not in repr(vars(desk.memory))
    (entry,) = desk.memory.audited
    assert (entry.action, entry.user_id, entry.origin) == ("personal_token.issued", ADA.id, HERE)
    assert entry.facts["token_id"] == str(token.id)
    assert text.hint not in repr(entry.facts.values())


async def test_nobody_has_more_live_tokens_than_they_can_know(desk: Desk) -> None:
    tokens = [await desk.issue() for _ in range(50)]
    with pytest.raises(TooManyPersonalTokens):
        await desk.issue()
    await desk.issue(GRACE)
    await desk.revoke(tokens[0][0].id, by=ADA.id, origin=HERE)
    await desk.issue()
    desk.clock.forward(MONTH)
    await desk.issue()


async def test_an_account_that_is_gone_gets_none(desk: Desk) -> None:
    with pytest.raises(AccountGone):
        await desk.issue(a_user("nobody"))


async def test_a_client_gives_away_no_more_than_it_was_given(desk: Desk) -> None:
    sign_in = desk.sign_in_of_client(a_client(), "account", "voice")
    for scopes in (["chat"], ["chat", "voice"], ["billing:read", "chat"]):
        with pytest.raises(ScopeNotHeld) as refused:
            await desk.issue(scopes=scopes, within=sign_in.id)
        assert refused.value.facts["lacking"] == [one for one in scopes if one != "voice"]
    assert desk.memory.personal_tokens == {}
    token, _ = await desk.issue(scopes=["voice"], within=sign_in.id)
    assert token.scopes == {"voice"}
    assert token.client_id == sign_in.client_id
    assert desk.memory.audited[-1].facts["client_id"] == sign_in.client_id


async def test_what_was_made_in_a_clients_sign_in_ends_with_the_client(desk: Desk) -> None:
    client, other = a_client(), a_client()
    token, text = await desk.issue(within=desk.sign_in_of_client(client, "account", "chat").id)
    kept = [
        await desk.issue(within=desk.sign_in_of_client(other, "account", "chat").id),
        await desk.issue(),
    ]
    await desk.exchange(text.text)
    await DisableClient(desk.memory.work, desk.clock)(client.client_id)
    with pytest.raises(PersonalTokenRefused):
        await desk.exchange(text.text)
    assert token.id in desk.memory.ended, "what stood for it is over as well"
    assert desk.memory.audited[-1].facts["personal_tokens"] == 1
    for _, one in kept:
        assert await desk.exchange(one.text)


async def test_a_sign_in_that_is_over_makes_none(desk: Desk) -> None:
    client = a_client()
    sign_in = desk.sign_in_of_client(client, "account", "chat")
    ended, anothers = a_sign_in(ADA, ended_at=NOON), a_sign_in(GRACE)
    desk.memory.keep(ended, anothers)
    # Its sign-in began in the very moment in which the client was disabled.
    desk.memory.oauth_clients[client.client_id] = client.disabled(NOON)
    for within in (sign_in.id, ended.id, anothers.id, SignInId(uuid4())):
        with pytest.raises(SessionEnded):
            await desk.issue(within=within)
    assert desk.memory.personal_tokens == {}


async def test_a_list_shows_ones_own_live_tokens_newest_first(desk: Desk) -> None:
    first, second, third = [(await desk.issue(name=name))[0] for name in ("a", "b", "c")]
    await desk.issue(GRACE)
    await desk.revoke(second.id, by=ADA.id, origin=HERE)
    assert list(await desk.list(ADA.id, before=None, most=10)) == [third, first]
    assert list(await desk.list(ADA.id, before=third.id, most=10)) == [first]
    assert list(await desk.list(ADA.id, before=None, most=1)) == [third]


async def test_a_revoked_token_is_refused_at_its_next_use(desk: Desk) -> None:
    token, text = await desk.issue()
    await desk.exchange(text.text)
    await desk.revoke(token.id, by=ADA.id, origin=HERE)
    with pytest.raises(PersonalTokenRefused):
        await desk.exchange(text.text)
    assert desk.memory.ended == {token.id: NOON}, "what stood for it is over as well"
    line = desk.memory.audited[-1]
    assert (line.action, line.facts) == ("personal_token.revoked", {"token_id": str(token.id)})


async def test_anothers_an_old_and_an_unknown_token_look_absent(desk: Desk) -> None:
    token, _ = await desk.issue()
    revoked, _ = await desk.issue()
    await desk.revoke(revoked.id, by=ADA.id, origin=HERE)
    for token_id, by in (
        (token.id, GRACE.id),
        (revoked.id, ADA.id),
        (PersonalTokenId(uuid4()), ADA.id),
    ):
        with pytest.raises(PersonalTokenNotFound):
            await desk.revoke(token_id, by=by, origin=HERE)
    assert desk.memory.personal_tokens[token.id] == token
    desk.clock.forward(MONTH)
    with pytest.raises(PersonalTokenNotFound):
        await desk.revoke(token.id, by=ADA.id, origin=HERE)


async def test_it_becomes_an_access_token_of_its_scopes_alone(desk: Desk) -> None:
    operator = a_user("op", role=Role.OPERATOR, tier="pro", has_second_factor=True)
    desk.memory.keep(operator)
    token, text = await desk.issue(operator, scopes=["voice", "usage:write"])
    desk.clock.forward(timedelta(hours=1))
    claims = desk.claims(await desk.exchange(text.text))
    assert claims["sub"] == str(operator.id)
    assert claims["sid"] == str(token.id)
    assert claims["scope"] == "usage:write voice"
    assert claims["role"] == "member", "a tool never administers anything"
    assert (claims["tier"], claims["org"], claims["amr"]) == ("pro", None, ["pat"])
    assert claims["auth_time"] == int(NOON.timestamp()), "never a fresh proof of anybody"
    assert claims["exp"] - claims["iat"] == 300


def _expired(desk: Desk, _token: PersonalToken) -> None:
    desk.clock.forward(MONTH)


def _revoked(desk: Desk, token: PersonalToken) -> None:
    desk.memory.personal_tokens[token.id] = replace(token, revoked_at=NOON)


def _locked_out(desk: Desk, _token: PersonalToken) -> None:
    desk.memory.keep(replace(ADA, is_active=False))


def _unknown(desk: Desk, _token: PersonalToken) -> None:
    desk.memory.personal_tokens.clear()


def _worthless(desk: Desk, token: PersonalToken) -> None:
    desk.memory.personal_tokens[token.id] = replace(token, scopes=frozenset({"usage:write"}))


@pytest.mark.parametrize("spoil", [_expired, _revoked, _locked_out, _unknown, _worthless])
async def test_whatever_is_wrong_the_answer_is_one(
    desk: Desk, spoil: Callable[[Desk, PersonalToken], None]
) -> None:
    token, text = await desk.issue()
    await desk.exchange(text.text)
    desk.presented.noted.clear()
    spoil(desk, token)
    with pytest.raises(PersonalTokenRefused) as refused:
        await desk.exchange(text.text)
    assert (str(refused.value), refused.value.facts) == (str(PersonalTokenRefused()), {})
    assert desk.presented.noted == []


async def test_a_mistyped_token_costs_no_look_up() -> None:
    exchange = ExchangePersonalToken(
        None,  # type: ignore[arg-type]  # whoever asks it, fails
        an_issuer(),
        ExchangedTokens(),
        StoppedClock(),
    )
    text = TokenText.made().text
    for wrong in ("", "ttc_", text[:-1], text[:-1] + "!", text + "0", text * 200):
        with pytest.raises(PersonalTokenRefused):
            await exchange(wrong)


async def test_its_use_is_noted_once_a_minute(desk: Desk) -> None:
    _, text = await desk.issue()
    for seconds in (0, 30, 29, 1, 5):
        desk.clock.forward(timedelta(seconds=seconds))
        await desk.exchange(text.text)
    assert desk.presented.noted == [NOON, NOON + timedelta(seconds=60)]


async def test_the_same_access_token_serves_while_a_minute_of_it_is_left(desk: Desk) -> None:
    _, text = await desk.issue()
    first = await desk.exchange(text.text)
    desk.clock.forward(timedelta(minutes=4))
    assert await desk.exchange(text.text) == first
    desk.clock.forward(timedelta(seconds=1))
    second = await desk.exchange(text.text)
    assert second != first
    assert desk.claims(second)["exp"] == desk.claims(first)["exp"] + 241
    _, other = await desk.issue()
    assert desk.claims(await desk.exchange(other.text))["sid"] != desk.claims(second)["sid"]


async def test_what_was_made_by_a_clock_that_was_ahead_is_not_given_again(desk: Desk) -> None:
    _, text = await desk.issue()
    desk.clock.forward(timedelta(hours=1))
    ahead = await desk.exchange(text.text)
    desk.clock.forward(-timedelta(hours=1))
    again = await desk.exchange(text.text)
    assert desk.claims(again)["iat"] == desk.claims(ahead)["iat"] - 3600
    assert await desk.exchange(text.text) == again


SEAT = Membership(UUID(int=7), OrganisationRole.MEMBER, "enterprise", NOON, NOON)


@pytest.mark.parametrize(
    ("change", "claim", "value"),
    [
        ({"tier": "pro"}, "tier", "pro"),
        ({"membership": SEAT}, "tier", "enterprise"),
        ({"membership": SEAT}, "org", str(SEAT.organisation_id)),
        ({"membership": replace(SEAT, role=OrganisationRole.OWNER)}, "org_role", "owner"),
        ({"has_second_factor": True}, "mfa", True),
    ],
)
async def test_a_change_of_its_owner_shows_in_the_next_one(
    desk: Desk, change: dict[str, Any], claim: str, value: object
) -> None:
    _, text = await desk.issue()
    before = desk.claims(await desk.exchange(text.text))
    desk.memory.keep(replace(ADA, **change))
    after = desk.claims(await desk.exchange(text.text))
    assert before[claim] != after[claim] == value


async def test_a_lost_role_shows_in_the_next_one(desk: Desk) -> None:
    operator = a_user("op", role=Role.OPERATOR)
    desk.memory.keep(operator)
    _, text = await desk.issue(operator, scopes=["chat", "usage:write"])
    assert desk.claims(await desk.exchange(text.text))["scope"] == "chat usage:write"
    desk.memory.keep(replace(operator, role=Role.MEMBER))
    assert desk.claims(await desk.exchange(text.text))["scope"] == "chat"


async def test_a_new_signing_key_signs_the_next_one(desk: Desk) -> None:
    _, text = await desk.issue()
    first = await desk.exchange(text.text)
    desk.keys.keys = parse_signing_keys(json.dumps(new_signing_keys()))
    second = await desk.exchange(text.text)
    assert second != first
    assert desk.claims(second)["sid"]
    desk.keys.keys = None
    with pytest.raises(SigningKeysUnavailable):
        await desk.exchange(text.text)


async def test_the_memory_of_exchanges_is_bounded(desk: Desk) -> None:
    exchange = replace(desk.exchange, exchanged=ExchangedTokens(most=2))
    texts = [(await desk.issue())[1].text for _ in range(3)]
    first, second, third = [await exchange(text) for text in texts]
    assert await exchange(texts[2]) == third
    assert await exchange(texts[1]) == second
    assert await exchange(texts[0]) != first
