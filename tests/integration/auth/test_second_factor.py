"""The second factor on the real database and at the real doors."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.domain.errors import SecondFactorUnreadable, TooManyAttempts
from services.auth.domain.origin import NOWHERE
from services.auth.domain.second_factor import Totp, new_recovery_codes
from services.auth.domain.signing_keys import parse_signing_keys
from services.auth.domain.user import User
from services.auth.storage.second_factors import SqlSecondFactors
from services.auth.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.tokens import sign_access_token
from tests.support.auth import (
    LIMIT,
    NOON,
    PASSWORD,
    Account,
    HeldKeys,
    RunningAuth,
    StoppedClock,
    a_user,
    some_signing_keys,
)
from tests.support.auth_second_factors import code_at, scanned, wrong_code

NewWork = Callable[[], SqlWork]
STEP = timedelta(seconds=30)


# --- the tables ---------------------------------------------------------------------------------


async def somebody(new_work: NewWork) -> User:
    name = f"u{time.monotonic_ns():x}"
    user = a_user(name)
    async with new_work() as work:
        await work.users.add(user)
    return user


async def with_totp(new_work: NewWork, user: User) -> Totp:
    totp = Totp.begun(user.id, NOON)
    async with new_work() as work:
        assert await work.second_factors.begin(totp)
        assert await work.second_factors.confirm(totp.confirmed(-1, NOON))
    return totp


async def test_what_is_kept_comes_back_and_the_user_is_seen_to_have_it(new_work: NewWork) -> None:
    user = await somebody(new_work)
    totp = Totp.begun(user.id, NOON)
    async with new_work() as work:
        assert await work.second_factors.totp_of(user.id) is None
        await work.second_factors.begin(totp)
        assert await work.second_factors.totp_of(user.id) == totp
        assert await work.users.get(user.id) == user
        confirmed = totp.confirmed(7, NOON)
        assert await work.second_factors.confirm(confirmed)
        assert await work.second_factors.totp_of(user.id) == confirmed
        assert await work.users.get(user.id) == replace(user, has_second_factor=True)
        assert await work.second_factors.remove(user.id)
        assert not await work.second_factors.remove(user.id)
        assert await work.users.get(user.id) == user


async def test_an_active_one_is_neither_replaced_nor_confirmed_again(new_work: NewWork) -> None:
    user = await somebody(new_work)
    totp = await with_totp(new_work, user)
    async with new_work() as work:
        assert not await work.second_factors.begin(Totp.begun(user.id, NOON + STEP))
        assert not await work.second_factors.confirm(totp.confirmed(9, NOON))
        kept = await work.second_factors.totp_of(user.id)
    assert kept is not None
    assert kept.secret == totp.secret


async def test_a_secret_that_was_replaced_is_not_confirmed(new_work: NewWork) -> None:
    user = await somebody(new_work)
    first, second = Totp.begun(user.id, NOON), Totp.begun(user.id, NOON + STEP)
    async with new_work() as work:
        await work.second_factors.begin(first)
        await work.second_factors.begin(second)
        assert not await work.second_factors.confirm(first.confirmed(1, NOON))
        assert await work.second_factors.confirm(second.confirmed(1, NOON))


async def test_the_database_holds_neither_secret_nor_recovery_code(
    new_work: NewWork, database: Database
) -> None:
    user = await somebody(new_work)
    totp = await with_totp(new_work, user)
    codes = new_recovery_codes()
    async with new_work() as work:
        await work.second_factors.replace_recovery_codes(
            user.id, [code.hash_for(user.id) for code in codes]
        )
    rows = [
        *await database.fetch("select * from totp where user_id = $1", user.id),
        *await database.fetch("select * from recovery_code where user_id = $1", user.id),
    ]
    assert len(rows) == 11
    raw = b"".join(v for row in rows for v in row.values() if isinstance(v, bytes))
    assert totp.secret.encode() not in raw
    assert not any(code.text.encode() in raw for code in codes)


async def test_a_secret_moved_to_another_user_does_not_open(
    new_work: NewWork, database: Database
) -> None:
    ada, eve = await somebody(new_work), await somebody(new_work)
    await with_totp(new_work, ada)
    await with_totp(new_work, eve)
    await database.execute(
        "update totp set sealed_secret = (select sealed_secret from totp where user_id = $1)"
        " where user_id = $2",
        eve.id,
        ada.id,
    )
    async with new_work() as work:
        with pytest.raises(SecondFactorUnreadable):
            await work.second_factors.totp_of(ada.id)


async def test_without_its_sealing_key_it_is_unreadable_and_recovery_codes_still_work(
    new_work: NewWork, database: Database
) -> None:
    user = await somebody(new_work)
    await with_totp(new_work, user)
    [code, *_] = new_recovery_codes()
    others = HeldKeys(replace(some_signing_keys(), sealing_keys={9: bytes(32)}))
    async with new_work() as work:
        await work.second_factors.replace_recovery_codes(user.id, [code.hash_for(user.id)])
    async with database.connection() as connection:
        poorer = SqlSecondFactors(connection, others)
        with pytest.raises(SecondFactorUnreadable):
            await poorer.totp_of(user.id)
        assert await poorer.active_since(user.id) == NOON
        assert await poorer.take_recovery_code(user.id, code.hash_for(user.id), NOON)


async def test_of_many_uses_of_one_step_at_once_one_wins(new_work: NewWork) -> None:
    user = await somebody(new_work)
    await with_totp(new_work, user)

    async def take() -> bool:
        async with new_work() as work:
            return await work.second_factors.take_step(user.id, 100)

    assert sorted(await asyncio.gather(*(take() for _ in range(10)))) == [False] * 9 + [True]
    async with new_work() as work:
        assert not await work.second_factors.take_step(user.id, 99)
        assert await work.second_factors.take_step(user.id, 101)


async def test_of_many_uses_of_one_recovery_code_at_once_one_wins(new_work: NewWork) -> None:
    user = await somebody(new_work)
    hashes = [code.hash_for(user.id) for code in new_recovery_codes()]
    async with new_work() as work:
        await work.second_factors.replace_recovery_codes(user.id, hashes)

    async def take() -> bool:
        async with new_work() as work:
            return await work.second_factors.take_recovery_code(user.id, hashes[3], NOON)

    assert sorted(await asyncio.gather(*(take() for _ in range(10)))) == [False] * 9 + [True]
    async with new_work() as work:
        assert await work.second_factors.recovery_codes_left(user.id) == 9
        assert not await work.second_factors.take_recovery_code(user.id, bytes(32), NOON)


async def test_of_many_wrong_codes_at_once_five_are_answered(new_work: NewWork) -> None:
    user = await somebody(new_work)
    totp = await with_totp(new_work, user)
    check = CheckSecondFactor(LIMIT, StoppedClock())

    async def guess(code: str) -> str | None:
        async with new_work() as work:
            return await check(work, user, code, NOWHERE)

    wrong = wrong_code(totp.secret, NOON)
    answers = await asyncio.gather(*(guess(wrong) for _ in range(15)), return_exceptions=True)
    assert answers.count(None) == 5
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 10
    with pytest.raises(TooManyAttempts):
        await guess(code_at(totp.secret, NOON))


async def test_an_account_takes_its_second_factor_with_it(
    new_work: NewWork, database: Database
) -> None:
    user = await somebody(new_work)
    await with_totp(new_work, user)
    async with new_work() as work:
        await work.second_factors.replace_recovery_codes(user.id, [bytes(32)])
    await database.execute("delete from user_account where id = $1", user.id)
    for table in ("totp", "recovery_code"):
        left = await database.fetch(f"select from {table} where user_id = $1", user.id)
        assert left == []


# --- the doors ----------------------------------------------------------------------------------


class Desk:
    """An account with a browser, an authenticator, and a database in reach."""

    def __init__(self, auth: RunningAuth, account: Account, database: Database) -> None:
        self.auth = auth
        self.account = account
        self.token = account.access_token
        self.refresh_token = account.refresh_token
        self.secret = ""
        self.recovery_codes: list[str] = []
        self._database = database

    async def post(
        self, path: str, body: Any = None, *, token: str | None = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token}"}
        return await self.auth.client.post(path, json=body, headers=headers)

    async def get(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.auth.client.get(path, headers=headers)

    async def delete(self, path: str, *, token: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token}"}
        return await self.auth.client.delete(path, headers=headers)

    async def login(self, otp: str | None = None, password: str = PASSWORD) -> httpx.Response:
        body = {"login": self.account.email, "password": password}
        return await self.auth.client.post(
            "/auth/login", json=body if otp is None else body | {"otp": otp}
        )

    async def begin(self) -> dict[str, Any]:
        answer = await self.post("/auth/mfa/totp")
        assert answer.status_code == 201, answer.text
        begun: dict[str, Any] = answer.json()
        self.secret = begun["secret"]
        return begun

    async def activate(self) -> None:
        await self.begin()
        answer = await self.post("/auth/mfa/totp/confirm", {"otp": self.code})
        assert answer.status_code == 200, answer.text
        self.recovery_codes = answer.json()["recovery_codes"]
        await self.later()

    async def later(self) -> None:
        """As if a step had passed, so that a code of now is good again."""
        await self._database.execute(
            "update totp set last_step = -1 where user_id = $1", self.account.id
        )

    async def renewed(self) -> None:
        tokens = (await self.auth.refresh(self.refresh_token)).json()
        self.token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]

    def aged(self, seconds: int, **claims: Any) -> str:
        """The same token, but its proof is that old."""
        path = self.auth.settings.signing_keys_file
        assert path is not None
        body = claims_of(self.token) | {"auth_time": int(time.time()) - seconds} | claims
        return sign_access_token(
            parse_signing_keys(path.read_text()).active,
            {name: value for name, value in body.items() if name not in ("iat", "exp")},
            issued_at=int(time.time()),
            lifetime_seconds=900,
        )

    @property
    def code(self) -> str:
        return code_at(self.secret, datetime.now(UTC))

    @property
    def wrong(self) -> str:
        return wrong_code(self.secret, datetime.now(UTC))


def claims_of(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


@pytest.fixture
async def desk(auth: RunningAuth, database: Database) -> Desk:
    return Desk(auth, await auth.account(), database)


async def test_an_authenticator_is_set_up_used_and_removed(desk: Desk) -> None:
    state = await desk.get("/auth/mfa")
    assert state.json() == {"totp": False, "confirmed_at": None, "recovery_codes_left": 0}
    elsewhere = (await desk.login()).json()
    begun = await desk.begin()
    assert set(begun) == {"secret", "otpauth_uri"}
    totp = scanned(begun["otpauth_uri"])
    assert (totp.secret, totp.name, totp.issuer) == (
        begun["secret"],
        desk.account.email,
        "ToolTip Companion",
    )
    assert (await desk.login()).status_code == 200  # nothing is active yet

    answer = await desk.post("/auth/mfa/totp/confirm", {"otp": totp.now()})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"recovery_codes"}
    codes = answer.json()["recovery_codes"]
    assert len(set(codes)) == 10
    state = (await desk.get("/auth/mfa")).json()
    assert (state["totp"], state["recovery_codes_left"]) == (True, 10)
    assert datetime.fromisoformat(state["confirmed_at"])

    ended = await desk.post(
        "/auth/step-up", {"password": PASSWORD}, token=elsewhere["access_token"]
    )
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")
    assert (await desk.auth.refresh(elsewhere["refresh_token"])).status_code == 401
    await desk.renewed()
    claims = claims_of(desk.token)
    assert (claims["mfa"], claims["amr"]) == (True, ["otp", "pwd"])

    assert (await desk.delete("/auth/mfa/totp")).status_code == 204
    assert (await desk.login()).status_code == 200
    again = await desk.delete("/auth/mfa/totp")
    assert (again.status_code, again.json()["code"]) == (409, "totp_not_active")
    audit = [entry["action"] for entry in (await desk.get("/auth/audit")).json()["data"]]
    assert {"second_factor.added", "second_factor.removed"} < set(audit)


async def test_a_sign_in_then_needs_the_code(desk: Desk) -> None:
    await desk.activate()
    for otp, password, status, code in (
        (None, PASSWORD, 403, "otp_required"),
        ("", PASSWORD, 403, "otp_required"),
        (desk.wrong, PASSWORD, 401, "otp_refused"),
        (None, "a wrong password", 401, "wrong_credentials"),
        (desk.code, "a wrong password", 401, "wrong_credentials"),
    ):
        answer = await desk.login(otp, password)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    answer = await desk.login(desk.code)
    assert answer.status_code == 200
    claims = claims_of(answer.json()["access_token"])
    assert (claims["mfa"], claims["amr"]) == (True, ["otp", "pwd"])
    assert time.time() - claims["auth_time"] < 30


async def test_digits_of_other_scripts_spaces_and_signs_are_refused(desk: Desk) -> None:
    await desk.activate()
    code = desk.code
    wide = code.translate({ord("0") + n: ord("０") + n for n in range(10)})
    for typed in (wide, f" {code}", f"{code}\n", f"+{code}"):
        answer = await desk.login(typed)
        assert (answer.status_code, answer.json()["code"]) == (401, "otp_refused")
    assert (await desk.login(code)).status_code == 200


@pytest.mark.parametrize("otp", [7, True, [], {}, "x" * 65, 123456])
async def test_what_is_no_text_is_off_the_schema(desk: Desk, otp: Any) -> None:
    assert (await desk.login(otp)).status_code == 422
    assert (await desk.post("/auth/mfa/totp/confirm", {"otp": otp})).status_code == 422
    body = {"password": PASSWORD, "otp": otp}
    assert (await desk.post("/auth/step-up", body)).status_code == 422


async def test_of_many_sign_ins_with_one_code_at_once_one_wins(desk: Desk) -> None:
    await desk.activate()
    code = desk.code
    answers = await asyncio.gather(*(desk.login(code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]


async def test_a_recovery_code_signs_in_once_however_many_come_at_once(desk: Desk) -> None:
    await desk.activate()
    code = desk.recovery_codes[0]
    answers = await asyncio.gather(*(desk.login(code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    [tokens] = [answer.json() for answer in answers if answer.status_code == 200]
    assert claims_of(tokens["access_token"])["amr"] == ["pwd", "recovery"]
    assert (await desk.get("/auth/mfa")).json()["recovery_codes_left"] == 9


async def test_the_sixth_wrong_code_has_to_wait_and_the_password_does_not(desk: Desk) -> None:
    await desk.activate()
    for _ in range(5):
        assert (await desk.login(desk.wrong)).status_code == 401
    answer = await desk.login(desk.code)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
    assert 25 <= int(answer.headers["retry-after"]) <= 30
    assert (await desk.login()).json()["code"] == "otp_required"
    answer = await desk.post("/auth/step-up", {"password": PASSWORD, "otp": desk.code})
    assert answer.status_code == 429


async def test_what_matters_needs_a_fresh_proof(desk: Desk) -> None:
    fresh, old = desk.aged(590), desk.aged(610)
    for path in ("/auth/mfa/totp", "/auth/mfa/recovery-codes"):
        answer = await desk.post(path, token=old)
        assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")
        assert answer.json()["max_age_seconds"] == 600
        assert (await desk.post(path, token=fresh)).status_code in {201, 409}
    assert (await desk.delete("/auth/mfa/totp", token=old)).status_code == 403
    assert (await desk.get("/auth/mfa")).status_code == 200


async def test_a_step_up_gives_the_same_sign_in_a_fresh_proof(desk: Desk) -> None:
    old = desk.aged(3600)
    answer = await desk.post("/auth/step-up", {"password": PASSWORD}, token=old)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"access_token", "token_type", "expires_in"}
    assert answer.json()["expires_in"] == 900
    claims = claims_of(answer.json()["access_token"])
    assert claims["sid"] == claims_of(desk.token)["sid"]
    assert (claims["amr"], claims["mfa"]) == (["pwd"], False)
    assert time.time() - claims["auth_time"] < 30
    stepped_up = answer.json()["access_token"]
    assert (await desk.post("/auth/mfa/totp", token=stepped_up)).status_code == 201
    # The next refresh remembers it.
    await desk.renewed()
    assert claims_of(desk.token)["auth_time"] == claims["auth_time"]


async def test_with_a_second_factor_a_password_alone_is_no_fresh_proof(desk: Desk) -> None:
    await desk.activate()
    weak = desk.aged(0, mfa=True, amr=["pwd"])
    answer = await desk.delete("/auth/mfa/totp", token=weak)
    assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")
    for body, status, code in (
        ({"password": PASSWORD}, 403, "otp_required"),
        ({"password": PASSWORD, "otp": desk.wrong}, 403, "wrong_otp"),
        ({"password": "a wrong password", "otp": desk.code}, 403, "wrong_password"),
        ({"password": "a wrong password"}, 403, "wrong_password"),
    ):
        refused = await desk.post("/auth/step-up", body, token=weak)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    answer = await desk.post("/auth/step-up", {"password": PASSWORD, "otp": desk.code}, token=weak)
    strong = answer.json()["access_token"]
    assert claims_of(strong)["amr"] == ["otp", "pwd"]
    assert (await desk.post("/auth/mfa/recovery-codes", token=strong)).status_code == 200
    assert (await desk.delete("/auth/mfa/totp", token=strong)).status_code == 204


async def test_new_recovery_codes_void_the_old_ones(desk: Desk) -> None:
    await desk.activate()
    await desk.renewed()
    answer = await desk.post("/auth/mfa/recovery-codes")
    assert answer.status_code == 200
    new = answer.json()["recovery_codes"]
    assert (await desk.login(desk.recovery_codes[0])).status_code == 401
    assert (await desk.login(new[0])).status_code == 200


async def test_beginning_twice_makes_another_secret_until_one_is_active(desk: Desk) -> None:
    first, second = await desk.begin(), await desk.begin()
    assert first["secret"] != second["secret"]
    old = code_at(first["secret"], datetime.now(UTC))
    refused = await desk.post("/auth/mfa/totp/confirm", {"otp": old})
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_otp")
    await desk.activate()
    for path, body in (
        ("/auth/mfa/totp", None),
        ("/auth/mfa/totp/confirm", {"otp": desk.code}),
    ):
        answer = await desk.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "totp_active")


async def test_of_two_confirmations_at_once_one_hands_out_codes(desk: Desk) -> None:
    await desk.begin()
    code = desk.code
    answers = await asyncio.gather(
        *(desk.post("/auth/mfa/totp/confirm", {"otp": code}) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert (await desk.get("/auth/mfa")).json()["recovery_codes_left"] == 10


async def test_the_owner_hears_by_mail_of_a_factor_added_and_removed(
    desk: Desk, database: Database
) -> None:
    await desk.activate()
    await desk.renewed()
    await desk.delete("/auth/mfa/totp")
    rows = await database.fetch(
        "select kind from outgoing_mail where recipient = $1 and kind like '%factor%' order by id",
        desk.account.email,
    )
    assert [row["kind"] for row in rows] == ["new_factor", "factor_removed"]


async def test_secrets_stand_in_no_error(desk: Desk) -> None:
    await desk.begin()
    answers = [
        await desk.post("/auth/mfa/totp/confirm", {"otp": "999999x", "extra": "hush-hush"}),
        await desk.post("/auth/step-up", {"password": "hush-hush", "otp": 1}),
        await desk.post("/auth/step-up", {"password": "hush-hush"}),
    ]
    for answer in answers:
        assert answer.status_code in {403, 422}
        assert "hush-hush" not in answer.text
        assert "999999x" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/mfa"),
        ("POST", "/auth/mfa/totp"),
        ("POST", "/auth/mfa/totp/confirm"),
        ("DELETE", "/auth/mfa/totp"),
        ("POST", "/auth/mfa/recovery-codes"),
        ("POST", "/auth/step-up"),
    ],
)
async def test_without_a_token_or_once_signed_out_nothing_is_to_be_had(
    desk: Desk, method: str, path: str
) -> None:
    assert (await desk.auth.client.request(method, path)).status_code == 401
    assert (await desk.post("/auth/logout")).status_code == 204
    body = {"password": PASSWORD} if path.endswith("step-up") else {"otp": "123456"}
    headers = {"authorization": f"Bearer {desk.token}"}
    answer = await desk.auth.client.request(
        method, path, headers=headers, json=body if method == "POST" else None
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


async def test_a_personal_token_gets_nowhere_near(desk: Desk) -> None:
    token = desk.aged(0, scope="chat voice billing:read", amr=["pat"])
    for path in ("/auth/step-up", "/auth/mfa/totp"):
        answer = await desk.post(path, {"password": PASSWORD}, token=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
