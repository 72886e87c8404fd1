"""Guessing at the real doors: by account, by network and by all, whatever the spelling."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import httpx
import pytest

from services.auth.actions._limit_guesses import count_failure
from services.auth.domain.attempts import EVERYBODY, Failures, failures_from, failures_of
from services.auth.domain.errors import TooManyAttempts
from services.auth.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.ids import UserId
from tests.support.auth import LIMIT, NOON, PASSWORD, RunningAuth, StoppedClock, running_auth

NewWork = Callable[[], SqlWork]
WRONG = "a wrong password"
ADDRESS = "x-envoy-external-address"


async def guess(
    auth: RunningAuth, login: str, password: str = WRONG, *, address: str | None = None
) -> httpx.Response:
    return await auth.client.post(
        "/auth/login",
        json={"login": login, "password": password},
        headers={ADDRESS: address} if address else {},
    )


@pytest.fixture(scope="module")
async def strict(
    database_url: str, cache_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningAuth]:
    """The service with low limits, so that the tests need few passwords."""
    async with running_auth(
        database_url,
        tmp_path_factory.mktemp("strict"),
        cache_url=cache_url,
        login_failures_network=8,
        registrations_network=6,
        resets_network=6,
    ) as running:
        yield running


async def test_of_many_guesses_at_once_five_are_answered(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    names = (user["email"], user["username"], user["email"].upper(), f" {user['username']} ")
    answers = await asyncio.gather(*(guess(auth, names[n % 4]) for n in range(24)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 19}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["code"] == "too_many_attempts"
            # A second more for those who read the clock before they queued.
            assert 1 <= int(answer.headers["retry-after"]) <= 31
    assert (await guess(auth, user["email"], PASSWORD)).status_code == 429


async def test_after_the_wait_one_guess_of_many_is_answered(
    auth: RunningAuth, database: Database
) -> None:
    user = (await auth.register()).json()["user"]
    await asyncio.gather(*(guess(auth, user["email"]) for _ in range(8)))
    await database.execute("update login_failure set blocked_until = now() - interval '1 second'")
    answers = await asyncio.gather(*(guess(auth, user["email"]) for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {401: 1, 429: 7}
    waits = {int(a.headers["retry-after"]) for a in answers if a.status_code == 429}
    assert min(waits) > 30
    await database.execute("update login_failure set blocked_until = now() - interval '1 second'")
    assert (await guess(auth, user["email"], PASSWORD)).status_code == 200
    assert (await guess(auth, user["email"])).status_code == 401


@pytest.mark.parametrize("exists", [True, False])
async def test_no_spelling_of_a_name_wins_a_guess(auth: RunningAuth, exists: bool) -> None:
    name = f"Straße{uuid4().hex[:8]}"
    if exists:
        assert (await auth.register(username=name)).status_code == 201
    spellings = [
        name,
        name.upper(),
        f"\u3000{name.lower()}\t",
        name.replace("ß", "SS"),
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name),
    ]
    for login in spellings:
        assert (await guess(auth, login)).status_code == 401
    for login in (*spellings, f"\n{name}"):
        assert (await guess(auth, login)).status_code == 429


async def test_a_network_runs_out_of_guesses_whatever_it_guesses_at(
    strict: RunningAuth, auth: RunningAuth
) -> None:
    user = (await auth.register()).json()["user"]
    here = "2001:db8:7:1::"
    answers = await asyncio.gather(
        *(guess(strict, f"n{uuid4().hex}", address=f"{here}{n + 1:x}") for n in range(20))
    )
    assert Counter(answer.status_code for answer in answers) == {401: 8, 429: 12}
    for address in (f"{here}ffff", "2001:db8:7:1:a:b:c:d"):
        assert (await guess(strict, user["email"], PASSWORD, address=address)).status_code == 429
    for address in ("2001:db8:7:2::1", "192.0.2.44"):
        assert (await guess(strict, user["email"], PASSWORD, address=address)).status_code == 200


async def test_an_ipv4_address_written_as_ipv6_is_the_same_network(strict: RunningAuth) -> None:
    for n in range(8):
        address = "198.51.100.9" if n % 2 else "::ffff:198.51.100.9"
        assert (await guess(strict, f"n{uuid4().hex}", address=address)).status_code == 401
    for address in ("198.51.100.9", "::ffff:198.51.100.9", "::ffff:c633:6409"):
        assert (await guess(strict, "x", address=address)).status_code == 429


@pytest.mark.parametrize("address", ["nonsense", " ", "1.2.3.4:99", "203.0.113.1, 203.0.113.2"])
async def test_who_comes_from_no_address_is_not_let_in(auth: RunningAuth, address: str) -> None:
    user = (await auth.register()).json()["user"]
    answer = await guess(auth, user["email"], PASSWORD, address=address)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_client_address")


async def test_two_addresses_are_as_good_as_none(auth: RunningAuth) -> None:
    answer = await auth.client.post(
        "/auth/login",
        json={"login": "x", "password": WRONG},
        headers=[(ADDRESS, "203.0.113.1"), (ADDRESS, "203.0.113.2")],
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_client_address")


async def test_what_others_say_of_the_client_is_ignored(strict: RunningAuth) -> None:
    for n in range(8):
        headers = {
            ADDRESS: "203.0.113.80",
            "x-forwarded-for": f"10.0.0.{n}",
            "x-real-ip": "10.1.1.1",
        }
        body = {"login": f"n{uuid4().hex}", "password": WRONG}
        answer = await strict.client.post("/auth/login", json=body, headers=headers)
        assert answer.status_code == 401
    assert (await guess(strict, "x", address="203.0.113.80")).status_code == 429


async def test_a_spray_over_everything_stops_all_until_the_minute_ends(
    database_url: str, cache_url: str, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("ceiling")
    async with running_auth(
        database_url, directory, cache_url=cache_url, login_failures_global=6
    ) as auth:
        user = (await auth.register()).json()["user"]
        # Other tests fail, too, and all count here.
        await database.execute("delete from login_failure")
        for n in range(6):
            answer = await guess(auth, f"n{uuid4().hex}", address=f"192.0.2.{n}")
            assert answer.status_code == 401
        answer = await guess(auth, user["email"], PASSWORD, address="192.0.2.200")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
        assert 50 <= int(answer.headers["retry-after"]) <= 60
        await database.execute("update login_failure set window_ends_at = now()")
        assert (await guess(auth, user["email"], PASSWORD)).status_code == 200


async def test_a_sign_in_that_succeeds_writes_no_count_and_waits_for_none(
    auth: RunningAuth, new_work: NewWork, database: Database
) -> None:
    user = (await auth.register()).json()["user"]
    before = await database.fetchrow("select count(*), sum(failures) from login_failure")
    async with new_work() as work:
        # Somebody is failing from the same network, and takes their time.
        await count_failure(work, failures_from("127.0.0.1"), LIMIT, StoppedClock())
        await work.login_failures.add(EVERYBODY, NOON, window_ends_at=NOON)
        async with asyncio.timeout(3):
            assert (await guess(auth, user["email"], PASSWORD)).status_code == 200
        during = await database.fetchrow("select count(*), sum(failures) from login_failure")
        await work.login_failures.forget(failures_from("127.0.0.1"))
    assert during == before


async def test_who_holds_a_subject_counts_alone(new_work: NewWork) -> None:
    subject = failures_of(UserId(uuid4()))

    async def fail() -> None:
        async with new_work() as work:
            await count_failure(work, subject, LIMIT, StoppedClock())

    results = await asyncio.gather(*(fail() for _ in range(9)), return_exceptions=True)
    assert Counter(type(result) for result in results) == {type(None): 5, TooManyAttempts: 4}
    async with new_work() as work:
        kept = await work.login_failures.of(subject)
    blocked_until = NOON + LIMIT.first_delay
    assert kept == Failures(5, blocked_until + LIMIT.window, blocked_until)


@pytest.mark.parametrize(
    ("path", "served", "address"),
    [("/auth/register", 201, "198.51.100.61"), ("/auth/password/forgot", 202, "198.51.100.62")],
)
async def test_of_many_who_ask_at_once_so_many_are_served(
    strict: RunningAuth, database: Database, path: str, served: int, address: str
) -> None:
    async def ask() -> httpx.Response:
        name = f"u{uuid4().hex[:12]}"
        body = {"email": f"{name}@example.com"}
        if path == "/auth/register":
            body |= {"username": name, "password": PASSWORD}
        return await strict.client.post(path, json=body, headers={ADDRESS: address})

    answers = await asyncio.gather(*(ask() for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {served: 6, 429: 4}
    for answer in answers:
        if answer.status_code == 429:
            assert 3500 < int(answer.headers["retry-after"]) <= 3601
    # The next hour is as good as the first, however many were refused.
    await database.execute("update login_failure set window_ends_at = now()")
    answers = await asyncio.gather(*(ask() for _ in range(8)))
    assert Counter(answer.status_code for answer in answers) == {served: 6, 429: 2}


async def test_accounts_made_on_the_page_count_as_all_others(strict: RunningAuth) -> None:
    path, network = "/oauth/register", {ADDRESS: "198.51.100.77"}
    shown = await strict.client.get(path)
    found = re.search('name="csrf" value="([0-9a-f]+)"', shown.text)
    assert found is not None
    cookie = {"cookie": shown.headers["set-cookie"].partition(";")[0]}
    told = []
    for _ in range(strict.settings.registrations_network + 1):
        name = f"page{uuid4().hex[:12]}"
        typed = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        form = typed | {"csrf": found[1]}
        answer = await strict.client.post(path, data=form, headers=cookie | network)
        told.append("Come back in" in answer.text)
    assert told == [False] * strict.settings.registrations_network + [True]
    answer = await strict.client.post("/auth/register", json=typed, headers=network)
    assert answer.status_code == 429
