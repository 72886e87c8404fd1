"""What ends with whom: codes and tokens when a sign-in, a factor, a role or a client goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.auth.actions.assign_role import AssignRole
from services.auth.actions.disable_client import DisableClient
from services.auth.actions.register_client import RegisterClient
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import Role
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.ids import UserId
from tests.integration.auth.oauth.conftest import (
    Visitor,
    returned,
    with_authenticator,
)
from tests.support.auth import Account, RunningAuth
from tests.support.auth_oauth import CALLBACK

Act = Callable[[RunningAuth, Account, Callable[[], SqlWork]], Awaitable[None]]


async def factor_added(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    await with_authenticator(auth, account)


async def factor_removed(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    answer = await auth.client.delete("/auth/mfa/totp", headers=account.headers)
    assert answer.status_code == 204, answer.text


async def factor_reset(_auth: RunningAuth, account: Account, work: Callable[[], SqlWork]) -> None:
    await ResetSecondFactor(work, SystemClock())(account.username)


async def role_changed(_auth: RunningAuth, account: Account, work: Callable[[], SqlWork]) -> None:
    await AssignRole(work, SystemClock())(account.username, Role.MEMBER)


async def signed_out(auth: RunningAuth, account: Account, _work: Callable[[], SqlWork]) -> None:
    answer = await auth.client.post("/auth/logout?everywhere=true", headers=account.headers)
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize(
    ("act", "has_factor"),
    [
        (factor_added, False),
        (factor_removed, True),
        (factor_reset, True),
        (role_changed, False),
        (signed_out, False),
    ],
)
async def test_what_ends_all_sign_ins_voids_codes_that_nobody_redeemed(
    auth: RunningAuth,
    visitor: Visitor,
    new_work: Callable[[], SqlWork],
    act: Act,
    has_factor: bool,
) -> None:
    account, other = await auth.account(), await auth.account()
    recovery = await with_authenticator(auth, account) if has_factor else []
    await visitor.open()
    answer = await visitor.submit(login=account.username, password=account.password)
    if has_factor:
        answer = await visitor.submit(otp=recovery[0])
    code, others = returned(answer)["code"], await visitor.code(other)
    if has_factor:
        body = {"password": account.password, "otp": recovery[1]}
        proven = await auth.client.post("/auth/step-up", json=body, headers=account.headers)
        account = replace(account, access_token=proven.json()["access_token"])
    await act(auth, account, new_work)
    refused = await visitor.token(code)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await visitor.token(others)).status_code == 200, "another user's code is untouched"


async def test_no_code_slips_past_signing_out_everywhere(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    """Whichever comes first: the code is void, or what it began is over."""
    for _ in range(6):
        account = await auth.account()
        code = await visitor.code(account)
        answer, _ = await asyncio.gather(visitor.token(code), signed_out(auth, account, new_work))
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            again = await visitor.refresh(answer.json()["refresh_token"])
            assert again.status_code == 400, "the sign-in outlived signing out everywhere"


async def test_redeeming_waits_for_whoever_ends_all_sign_ins_and_holds_nothing_meanwhile(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    code = await visitor.code(account)
    async with new_work() as work:
        await work.users.hold(UserId(account.id))
        redeeming = asyncio.create_task(visitor.token(code))
        _, waiting = await asyncio.wait({redeeming}, timeout=0.5)
        assert waiting, "it has to see what becomes of the account"
        now = datetime.now(UTC)
        await work.sign_ins.end_all_of(UserId(account.id), EndReason.SECOND_FACTOR_CHANGED, now)
    answer = await redeeming
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_personal_token_made_for_a_client_ends_with_it(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    code = await visitor.code(account, scope="account chat")
    bearer = {"authorization": f"Bearer {(await visitor.token(code)).json()['access_token']}"}
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    made, own = [
        (await auth.client.post("/auth/tokens", json=wish, headers=headers)).json()
        for headers in (bearer, account.headers)
    ]
    listed = (await auth.client.get("/auth/tokens", headers=account.headers)).json()["data"]
    assert [one["client_id"] for one in listed] == [None, visitor.client.client_id]
    door = "/internal/personal-tokens/exchange"
    shown = {"authorization": f"Bearer {made['token']}"}
    assert (await auth.internal.get(door, headers=shown)).status_code == 200
    await DisableClient(new_work, SystemClock())(visitor.client.client_id)
    assert (await auth.internal.get(door, headers=shown)).status_code == 401
    async with new_work() as work:
        ended = await work.ended_credentials.since(datetime.now(UTC) - timedelta(minutes=1))
    assert UUID(made["id"]) in ended, "nor is what stood for it good any more"
    shown = {"authorization": f"Bearer {own['token']}"}
    assert (await auth.internal.get(door, headers=shown)).status_code == 200
    answer = await auth.client.post("/auth/tokens", json=wish, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


async def test_no_token_is_made_beside_the_end_of_its_client(
    auth: RunningAuth, new_work: Callable[[], SqlWork]
) -> None:
    """Of making one and disabling its client at once, either the token is refused or revoked."""
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    for _ in range(6):
        client = await RegisterClient(new_work, SystemClock())("Another", [CALLBACK])
        visitor = Visitor(auth, client)
        tokens = (await visitor.token(await visitor.code(await auth.account()))).json()
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        answer, _ = await asyncio.gather(
            auth.client.post("/auth/tokens", json=wish, headers=bearer),
            DisableClient(new_work, SystemClock())(client.client_id),
        )
        assert answer.status_code in (201, 401), answer.text
        if answer.status_code == 201:
            shown = {"authorization": f"Bearer {answer.json()['token']}"}
            door = "/internal/personal-tokens/exchange"
            assert (await auth.internal.get(door, headers=shown)).status_code == 401


async def test_whatever_a_client_begins_waits_for_whoever_disables_it(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    tokens = (await visitor.token(await visitor.code(account))).json()
    code = await visitor.code(account)
    wish = {"name": "x", "scopes": ["chat"], "expires_in_days": 365}
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    async with new_work() as work:
        await work.oauth_clients.disable(visitor.client.disabled(datetime.now(UTC)))
        begun = {
            asyncio.create_task(visitor.token(code)),
            asyncio.create_task(auth.client.post("/auth/tokens", json=wish, headers=bearer)),
        }
        done, _ = await asyncio.wait(begun, timeout=0.5)
        assert not done, "it would go on after its client has ended"
    answers = await asyncio.gather(*begun)
    assert {answer.json().get("code", "") for answer in answers} == {
        "unknown_client",
        "session_ended",
    }
    async with new_work() as work:
        live = await work.sign_ins.live_of(
            UserId(account.id), datetime.now(UTC), before=None, most=10
        )
    assert [one.client_id for one in live].count(visitor.client.client_id) == 1
