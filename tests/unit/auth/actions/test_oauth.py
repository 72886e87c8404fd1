"""Codes, the sign-ins they begin, and the clients that may have them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from services.auth.actions.authorize_client import AuthorizeClient
from services.auth.actions.begin_sign_in import BeginSignIn
from services.auth.actions.disable_client import DisableClient
from services.auth.actions.find_return_address import FindReturnAddress
from services.auth.actions.redeem_code import RedeemCode
from services.auth.actions.refresh import Refresh
from services.auth.actions.register_client import RegisterClient
from services.auth.actions.revoke_token import RevokeToken
from services.auth.domain.authorization import AuthorizationRequest, Redemption
from services.auth.domain.errors import (
    ClientNotFound,
    CodeRefused,
    InvalidOAuthRequest,
    RedirectNotRegistered,
    RefreshRefused,
    SigningKeysUnavailable,
    UnknownClient,
    WrongCredentials,
)
from services.auth.domain.oauth_client import OAuthClient
from services.auth.domain.origin import Origin
from services.auth.domain.refresh_token import RefreshToken
from services.auth.domain.sign_in import EndReason
from services.auth.domain.token_pair import TokenPair
from services.auth.domain.user import Role
from shared.scopes import of_sign_in
from tests.support.auth import (
    LIFETIMES,
    NOON,
    HeldKeys,
    Memory,
    StoppedClock,
    a_sign_in,
    a_sign_in_action,
    a_user,
    an_issuer,
    shown,
    some_signing_keys,
)
from tests.support.auth_oauth import CALLBACK, VERIFIER, MemoryOAuthClients, asked

ISSUER = "https://auth.example"
ELSEWHERE = Origin("a browser", "192.0.2.9")


class Desk:
    """auth with one user and one client."""

    def __init__(self) -> None:
        self.user = a_user()
        self.memory = Memory().keep(self.user)
        self.client = OAuthClient.registered("An extension", [CALLBACK], NOON)
        self.memory.oauth_clients[self.client.client_id] = self.client
        self.clock = StoppedClock()
        self.keys = HeldKeys(some_signing_keys())
        issuer, work = an_issuer(self.keys), self.memory.work
        prove = a_sign_in_action(work, issuer=issuer, clock=self.clock).prove
        self.find = FindReturnAddress(work, ISSUER)
        self.authorize = AuthorizeClient(work, prove, self.clock)
        self.redeem = RedeemCode(work, BeginSignIn(issuer, LIFETIMES, self.clock), self.clock)
        self.refresh = Refresh(work, issuer, LIFETIMES, self.clock)
        self.revoke = RevokeToken(work, self.keys, self.clock)
        self.disable = DisableClient(work, self.clock)

    async def code(self, **parts: str) -> str:
        question = asked(self.client.client_id, **parts)
        request = AuthorizationRequest.read(question, await self.find(question))
        answer = await self.authorize(request, shown("ada"))
        return parse_qs(urlsplit(answer).query)["code"][0]

    async def tokens(self, code: str, **parts: str) -> TokenPair:
        redemption = Redemption(self.client.client_id, code, CALLBACK, VERIFIER)
        return await self.redeem(replace(redemption, **parts), ELSEWHERE)

    def audited(self) -> list[str]:
        return [entry.action for entry in self.memory.audited]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_code_begins_a_sign_in_of_its_client(desk: Desk) -> None:
    code = await desk.code()
    assert not desk.memory.devices
    pair = await desk.tokens(code)
    (sign_in,) = desk.memory.devices.values()
    assert (sign_in.client_id, sign_in.user_id) == (desk.client.client_id, desk.user.id)
    assert (sign_in.authenticated_at, sign_in.methods) == (NOON, frozenset({"pwd"}))
    assert pair.sign_in_id == sign_in.id
    assert pair.scopes == of_sign_in("member")
    assert desk.audited() == ["client.authorized", "sign_in.begun"]


async def test_the_code_itself_is_kept_nowhere(desk: Desk) -> None:
    code = await desk.code()
    assert code not in repr(vars(desk.memory))
    assert code.encode() not in desk.memory.codes


async def test_a_client_gets_the_scopes_it_asked_for_while_it_lasts(desk: Desk) -> None:
    pair = await desk.tokens(await desk.code(scope="chat usage:write"))
    assert pair.scopes == {"chat"}, "a member has no usage:write to give"
    again = await desk.refresh(pair.refresh_token, client_id=desk.client.client_id)
    assert again.scopes == {"chat"}
    desk.memory.accounts[desk.user.id] = replace(desk.user, role=Role.BILLING)
    assert (await desk.tokens(await desk.code(scope="usage:write"))).scopes == {"usage:write"}


async def test_a_wrong_password_makes_no_code(desk: Desk) -> None:
    question = asked(desk.client.client_id)
    request = AuthorizationRequest.read(question, await desk.find(question))
    with pytest.raises(WrongCredentials):
        await desk.authorize(request, shown("ada", "a wrong password"))
    assert not desk.memory.codes


async def test_a_second_use_ends_the_sign_in_that_the_first_has_begun(desk: Desk) -> None:
    code = await desk.code()
    pair = await desk.tokens(code)
    for _ in range(2):
        with pytest.raises(CodeRefused):
            await desk.tokens(code)
    assert desk.memory.reasons == {pair.sign_in_id: EndReason.CODE_REUSED}
    assert pair.sign_in_id in desk.memory.ended
    (line,) = [entry for entry in desk.memory.audited if entry.action == "code.reused"]
    assert (line.at, line.user_id, line.origin) == (NOON, desk.user.id, ELSEWHERE)
    with pytest.raises(RefreshRefused):
        await desk.refresh(pair.refresh_token, client_id=desk.client.client_id)


async def test_also_when_whoever_shows_it_again_knows_nothing_else(desk: Desk) -> None:
    code = await desk.code()
    pair = await desk.tokens(code)
    desk.clock.forward(timedelta(hours=2))
    with pytest.raises(CodeRefused):
        await desk.tokens(code, verifier="w" * 43, redirect_uri="https://evil.example/")
    assert desk.memory.reasons == {pair.sign_in_id: EndReason.CODE_REUSED}


@pytest.mark.parametrize(
    "parts",
    [{"verifier": "w" * 43}, {"verifier": "short"}, {"redirect_uri": CALLBACK + "x"}],
)
async def test_a_code_is_good_for_one_try(desk: Desk, parts: dict[str, str]) -> None:
    code = await desk.code()
    with pytest.raises(CodeRefused):
        await desk.tokens(code, **parts)
    with pytest.raises(CodeRefused):
        await desk.tokens(code)
    assert not desk.memory.devices


async def test_a_code_that_nobody_was_given_is_refused(desk: Desk) -> None:
    await desk.code()
    with pytest.raises(CodeRefused):
        await desk.tokens("A" * 43)
    assert not desk.memory.devices


async def test_a_code_of_an_account_that_is_gone_is_refused(desk: Desk) -> None:
    code = await desk.code()
    del desk.memory.accounts[desk.user.id]
    with pytest.raises(CodeRefused):
        await desk.tokens(code)


async def test_a_client_that_is_disabled_meanwhile_begins_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await desk.code()

    async def held(_: object, client_id: str) -> OAuthClient:
        return desk.memory.oauth_clients[client_id].disabled(NOON)

    monkeypatch.setattr(MemoryOAuthClients, "hold", held)
    with pytest.raises(UnknownClient):
        await desk.tokens(code)
    assert not desk.memory.devices


async def test_another_clients_code_is_refused(desk: Desk) -> None:
    other = await RegisterClient(desk.memory.work, desk.clock)("Another", [CALLBACK])
    with pytest.raises(CodeRefused):
        await desk.tokens(await desk.code(), client_id=other.client_id)
    assert not desk.memory.devices


async def test_an_expired_code_is_refused(desk: Desk) -> None:
    code = await desk.code()
    desk.clock.forward(timedelta(seconds=60))
    with pytest.raises(CodeRefused):
        await desk.tokens(code)


@pytest.mark.parametrize(
    "change",
    [{"password_changed_at": NOON + timedelta(seconds=1)}, {"is_active": False}],
)
async def test_a_code_of_before_the_password_changed_is_refused(
    desk: Desk, change: dict[str, object]
) -> None:
    code = await desk.code()
    desk.memory.accounts[desk.user.id] = replace(desk.user, **change)  # type: ignore[arg-type]
    with pytest.raises(CodeRefused):
        await desk.tokens(code)
    assert not desk.memory.devices


async def test_without_signing_keys_a_code_is_not_used_up(desk: Desk) -> None:
    code = await desk.code()
    desk.keys.keys = None
    with pytest.raises(SigningKeysUnavailable):
        await desk.tokens(code)
    desk.keys.keys = some_signing_keys()
    assert await desk.tokens(code)


async def test_a_sign_in_goes_on_with_its_own_client_alone(desk: Desk) -> None:
    other = await RegisterClient(desk.memory.work, desk.clock)("Another", [CALLBACK])
    pair = await desk.tokens(await desk.code())
    for client_id in (other.client_id, None):
        with pytest.raises(RefreshRefused):
            await desk.refresh(pair.refresh_token, client_id=client_id)
    own = a_sign_in(desk.user)
    desk.memory.keep(own)
    first_party = an_issuer(desk.keys).pair(desk.user, own, NOON)
    with pytest.raises(RefreshRefused):
        await desk.refresh(first_party.refresh_token, client_id=desk.client.client_id)
    assert await desk.refresh(pair.refresh_token, client_id=desk.client.client_id)


async def test_an_unknown_client_gets_nothing(desk: Desk) -> None:
    code = await desk.code()
    for client_id in ("0" * 24, "", "nobody", "\x00", "A" * 9000):
        with pytest.raises(UnknownClient):
            await desk.tokens(code, client_id=client_id)
        with pytest.raises(UnknownClient):
            await desk.refresh("A" * 75, client_id=client_id)
    assert await desk.tokens(code), "and uses up no code"


async def test_the_way_back_must_be_registered(desk: Desk) -> None:
    with pytest.raises(RedirectNotRegistered):
        await desk.find(asked(desk.client.client_id, redirect_uri="https://evil.example/cb"))
    for missing in ("client_id", "redirect_uri"):
        with pytest.raises(InvalidOAuthRequest):
            await desk.find(asked(desk.client.client_id, **{missing: None}))


async def test_a_disabled_client_is_unknown_and_its_sign_ins_are_over(desk: Desk) -> None:
    pair, code = await desk.tokens(await desk.code()), await desk.code()
    own = a_sign_in(desk.user)
    desk.memory.keep(own)
    assert await desk.disable(desk.client.client_id) == 1
    assert desk.memory.reasons == {pair.sign_in_id: EndReason.CLIENT_DISABLED}
    with pytest.raises(UnknownClient):
        await desk.tokens(code)
    with pytest.raises(UnknownClient):
        await desk.find(asked(desk.client.client_id))
    with pytest.raises(UnknownClient):
        await desk.refresh(pair.refresh_token, client_id=desk.client.client_id)
    for unknown in ("0" * 24, "", "x"):
        with pytest.raises(ClientNotFound):
            await desk.disable(unknown)


async def test_a_token_of_its_own_signs_a_client_out(desk: Desk) -> None:
    pair = await desk.tokens(await desk.code())
    client_id = desk.client.client_id
    newer = await desk.refresh(pair.refresh_token, client_id=client_id)
    await desk.revoke(newer.refresh_token, None, client_id=client_id, origin=ELSEWHERE)
    assert desk.memory.reasons == {pair.sign_in_id: EndReason.SIGNED_OUT}
    line = desk.memory.audited[-1]
    assert (line.action, line.origin) == ("sign_in.ended", ELSEWHERE)
    assert line.facts == {"sign_in_id": str(pair.sign_in_id), "reason": "signed_out"}
    await desk.revoke(newer.refresh_token, None, client_id=client_id, origin=ELSEWHERE)
    assert desk.audited().count("sign_in.ended") == 1


async def test_by_its_access_token_too_and_by_the_refresh_token_before(desk: Desk) -> None:
    client_id = desk.client.client_id
    first, second = [await desk.tokens(await desk.code()) for _ in range(2)]
    await desk.revoke("an.access.token", first.sign_in_id, client_id=client_id, origin=ELSEWHERE)
    await desk.refresh(second.refresh_token, client_id=client_id)
    await desk.revoke(second.refresh_token, None, client_id=client_id, origin=ELSEWHERE)
    assert set(desk.memory.reasons) == {first.sign_in_id, second.sign_in_id}


async def test_no_other_token_changes_anything(desk: Desk) -> None:
    client_id = desk.client.client_id
    other = await RegisterClient(desk.memory.work, desk.clock)("Another", [CALLBACK])
    pair = await desk.tokens(await desk.code())
    await desk.revoke(pair.refresh_token, None, client_id=other.client_id, origin=ELSEWHERE)
    await desk.revoke("x", pair.sign_in_id, client_id=other.client_id, origin=ELSEWHERE)
    stranger = a_sign_in(desk.user)
    forged = an_issuer(desk.keys).pair(desk.user, stranger, NOON).refresh_token
    guessed = replace(RefreshToken.parse(pair.refresh_token), mac=b"m" * 32).encoded
    for token in ("", "x", forged, guessed, "A" * 75, pair.refresh_token[:-1] + "\x00"):
        await desk.revoke(token, None, client_id=client_id, origin=ELSEWHERE)
    assert not desk.memory.reasons
    with pytest.raises(UnknownClient):
        await desk.revoke(pair.refresh_token, None, client_id="0" * 24, origin=ELSEWHERE)
