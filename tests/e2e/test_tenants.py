"""What is one user's is nobody else's: every operation that the services' documents name.

A new operation is tried here by itself. One that names a thing by an id which this test does not
know fails `test_every_id_is_somebodys_or_everybodys`, which says what to add.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from deploy.envoy.gateway import PUBLIC_CALLS
from tests.support.openapi import Operation
from tests.support.suite import Person, Suite, a_person
from tests.support.suite_organisations import confirm_address
from tests.support.tenants import (
    OWNED,
    Belongings,
    all_operations,
    bad_tokens,
    everything_of,
    fields_of,
    request_for,
    together,
    unknown_to,
)

pytestmark = pytest.mark.e2e

NOBODYS = dict.fromkeys(OWNED, "0198c0de-0000-7000-8000-0000000000ff")
PUBLIC = {(call.method, call.path) for call in PUBLIC_CALLS}


@pytest.fixture(scope="module")
async def hers(suite: Suite) -> AsyncIterator[Belongings]:
    person = a_person(suite)
    await person.register()
    await confirm_address(suite, person)
    yield await everything_of(person)
    await person.client.aclose()


@pytest.fixture(scope="module")
async def his(suite: Suite) -> AsyncIterator[Belongings]:
    """As rich as she: whoever has nothing is refused for that alone."""
    person = a_person(suite)
    await person.register()
    await confirm_address(suite, person)
    yield await everything_of(person)
    await person.client.aclose()


@pytest.fixture(scope="module")
async def found(suite: Suite) -> list[Operation]:
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as client:
        return await all_operations(client)


def is_public(operation: Operation) -> bool:
    return (operation.method, operation.path) in PUBLIC


def told(operation: Operation, answer: httpx.Response) -> str:
    return f"{operation}: {answer.status_code} {answer.text[:200]}"


def test_every_id_is_somebodys_or_everybodys(found: list[Operation]) -> None:
    assert len(found) > 60
    missing = [
        f"{operation} names {name!r}. If it belongs to somebody: make one in `everything_of` and "
        "put its name into OWNED. If everybody may say it: give SHARED an example. Both are in "
        "tests/support/tenants.py."
        for operation in found
        for name in unknown_to(operation)
    ]
    assert not missing, "\n".join(missing)


async def test_strangers_get_in_where_the_list_says_so_and_nowhere_else(
    suite: Suite, found: list[Operation]
) -> None:
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as stranger:
        answers = await together(stranger.request(**request_for(one, NOBODYS)) for one in found)
    let_in = {
        str(operation)
        for operation, answer in zip(found, answers, strict=True)
        if (answer.status_code, _code(answer)) != (401, "unauthenticated")
    }
    assert let_in == {str(operation) for operation in found if is_public(operation)}


async def test_each_service_checks_tokens_by_itself(
    suite: Suite, found: list[Operation], hers: Belongings
) -> None:
    """Also behind the gateway: whoever reaches a service's port has won nothing."""
    good = hers.owner.client.headers["authorization"].removeprefix("Bearer ")
    ports = suite.installation.ports()
    headers: list[dict[str, str]] = [{}] + [
        {"authorization": f"Bearer {token}"} for token in bad_tokens(suite, good).values()
    ]
    wrong = []
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        guarded = [operation for operation in found if not is_public(operation)]
        for shown in headers:
            requests = [request_for(one, NOBODYS) for one in guarded]
            for operation, request in zip(guarded, requests, strict=True):
                request["url"] = f"http://127.0.0.1:{ports[operation.service]}{request['url']}"
            answers = await together(client.request(**one, headers=shown) for one in requests)
            wrong += [
                told(operation, answer)
                for operation, answer in zip(guarded, answers, strict=True)
                if answer.status_code != 401
            ]
    assert not wrong, "\n".join(wrong)


async def test_a_bad_token_opens_nothing(
    suite: Suite, found: list[Operation], hers: Belongings
) -> None:
    good = hers.owner.client.headers["authorization"].removeprefix("Bearer ")
    wrong = []
    for kind, token in bad_tokens(suite, good).items():
        shown = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=suite.url, trust_env=False, timeout=30, headers=shown
        ) as client:
            guarded = [operation for operation in found if not is_public(operation)]
            answers = await together(client.request(**request_for(o, hers.ids)) for o in guarded)
        wrong += [
            f"{kind}: {told(operation, answer)}"
            for operation, answer in zip(guarded, answers, strict=True)
            if answer.status_code != 401
        ]
    assert not wrong, "\n".join(wrong)


async def test_what_is_hers_looks_absent_to_him(
    found: list[Operation], hers: Belongings, his: Belongings
) -> None:
    before = await hers.look()
    owned = [operation for operation in found if fields_of(operation) & OWNED]
    assert len(owned) > 20
    tried: list[tuple[Operation, dict[str, Any]]] = []
    for operation in owned:
        tried.append((operation, request_for(operation, hers.ids)))
        inner = sorted((fields_of(operation) & OWNED) - {"organisation_id"})
        if "organisation_id" in operation.path_parameters and inner:
            # Her thing below his own organisation: the outer id alone must not open the inner one.
            mixed = {**hers.ids, "organisation_id": his.ids["organisation_id"]}
            tried.append((operation, request_for(operation, mixed)))

    answers = await together(his.owner.client.request(**request) for _, request in tried)

    wrong = [
        told(operation, answer)
        for (operation, _), answer in zip(tried, answers, strict=True)
        if answer.status_code not in (403, 404) or hers.shown_in(answer)
    ]
    assert not wrong, "\n".join(wrong)
    assert await hers.look() == before
    controls = [
        (operation, request_for(operation, hers.ids))
        for operation in owned
        if operation.method == "GET" and not operation.path.startswith("/billing/admin")
    ]
    opened = await together(hers.owner.client.request(**request) for _, request in controls)
    assert {answer.status_code for answer in opened} == {200}, "the ids themselves must be real"


async def test_no_page_or_list_of_his_shows_anything_of_hers(
    found: list[Operation], hers: Belongings, his: Belongings
) -> None:
    read = [o for o in found if o.method == "GET" and not fields_of(o) & OWNED]
    requests = [request_for(operation, his.ids) for operation in read]
    for operation, request in list(zip(read, requests, strict=True)):
        if "cursor" in fields_of(operation):
            for id_ in (hers.ids["session_id"], hers.ids["token_id"]):
                read.append(operation)
                requests.append({**request, "params": {"cursor": id_}})
    answers = await together(his.owner.client.request(**request) for request in requests)
    shown = {
        told(operation, answer): hers.shown_in(answer)
        for operation, answer in zip(read, answers, strict=True)
        if hers.shown_in(answer)
    }
    assert not shown
    # Cursors of hers are no cursors of some lists; all else is well-formed.
    good = Counter(a.status_code for a in answers if "cursor" not in a.request.url.params)
    assert good[200] > 20, good
    assert good[422] == 0, good


async def test_a_personal_token_opens_what_its_scope_names(
    suite: Suite, found: list[Operation], hers: Belongings
) -> None:
    shown = {"authorization": f"Bearer {hers.personal_token}"}
    async with httpx.AsyncClient(
        base_url=suite.url, trust_env=False, timeout=30, headers=shown
    ) as tool:
        guarded = [operation for operation in found if not is_public(operation)]
        answers = await together(tool.request(**request_for(one, NOBODYS)) for one in guarded)
    wrong = []
    for operation, answer in zip(guarded, answers, strict=True):
        refused = (answer.status_code, _code(answer)) == (403, "scope_missing")
        if refused == (operation.service == "chat") or answer.status_code == 401:
            wrong.append(told(operation, answer))
    assert not wrong, "\n".join(wrong)


async def test_the_billing_teams_calls_are_not_for_users(
    found: list[Operation], his: Belongings
) -> None:
    admin = [
        operation
        for operation in found
        if operation.path.startswith("/billing/admin") and not is_public(operation)
    ]
    assert len(admin) >= 3
    for operation in admin:
        answer = await his.owner.client.request(**request_for(operation, his.ids))
        assert answer.status_code == 403, told(operation, answer)


DEEP = "[" * 2_000 + "]" * 2_000
ODD = ('"\\u0000"', '"\\ud800"', "1" + "0" * 400, "[]", "{}", "null", "-1", DEEP)
WHOLE = ("", "{", "[]", "null", '"\\ud800"', DEEP, '{"\\ud800": 1}', '{"a": 1, "a": 2}', "\ufeff{}")


def malformed(operation: Operation) -> Iterator[dict[str, Any]]:
    """Requests that are wrong in one way each."""
    good = request_for(operation, NOBODYS)
    if isinstance(good.get("json"), dict):
        fields = {name: json.dumps(value) for name, value in good.pop("json").items()}
        bodies = list(WHOLE)
        for name in fields:
            bodies += [_document({**fields, name: odd}) for odd in ODD]
        bodies.append(_document({**fields, "never_heard_of": "1"}))
        shown = {"content-type": "application/json"}
        yield from ({**good, "content": body.encode(), "headers": shown} for body in bodies)
    elif "data" in good:
        for odd in ("\x00", "\ufffd" * 500, "1" * 5_000):
            yield {**good, "data": dict.fromkeys(good["data"], odd)}
    for name in operation.path_parameters:
        for odd in ("nothing", "1" * 300, "%F0%9F%92%A9", "%C3%28", "'--"):
            yield {**good, "url": operation.path.replace(f"{{{name}}}", odd).replace("{", "")}
    for parameter in operation.about.get("parameters", ()):
        if parameter["in"] == "query":
            for odd in ("\x00", "9" * 40, "\ud83d\udca9".encode("utf-16", "surrogatepass").hex()):
                yield {**good, "params": {parameter["name"]: odd}}


def _document(fields: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items()) + "}"


async def test_nothing_that_anybody_sends_is_our_fault(
    suite: Suite, found: list[Operation]
) -> None:
    person: Person = a_person(suite)
    await person.register()
    # One of the billing team, so that its calls are reached as well.
    suite.rows(
        "auth", "update user_account set role = 'billing' where id = %s returning id", person.id
    )
    await person.sign_in()
    # What ends the session that asks.
    ends = {"/auth/logout", "/auth/me", "/auth/password"}
    tried = [
        (operation, request)
        for operation in found
        if operation.path not in ends or operation.body_type
        for request in malformed(operation)
    ]
    assert 300 < len(tried) < 4_000

    answers = [*await together(person.client.request(**request) for _, request in tried)]
    # One of thousands may find an engine slow, whatever it says.
    for number, answer in enumerate(answers):
        if answer.status_code == 503 and "dependency_unavailable" in answer.text:
            answers[number] = await person.client.request(**tried[number][1])

    await person.client.aclose()
    wrong = [
        told(operation, answer)
        for (operation, _), answer in zip(tried, answers, strict=True)
        if not _is_well_answered(operation, answer)
    ]
    assert not wrong, f"{len(wrong)} of {len(tried)}:\n" + "\n".join(wrong[:40])
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[422] + statuses[400] > len(tried) / 2, statuses


def _is_well_answered(operation: Operation, answer: httpx.Response) -> bool:
    if answer.status_code >= 500 or 'File "' in answer.text or "Traceback" in answer.text:
        return False
    if answer.status_code < 400:
        return True
    kind = answer.headers["content-type"].partition(";")[0]
    if operation.path.startswith("/oauth"):  # pages, and RFC 6749's own errors
        return kind in ("text/html", "application/json", "application/problem+json")
    if operation.path in DASHBOARD_PAGES:
        return kind in ("text/html", "application/problem+json")
    if operation.path.startswith(("/v1", "/openai", "/anthropic", "/gemini")):
        return "message" in answer.json()["error"]
    if operation.path.startswith("/elevenlabs") and kind == "application/json":
        return _is_elevenlabs(answer.json()["detail"])
    return kind == "application/problem+json" and {"code", "request_id"} <= set(answer.json())


DASHBOARD_PAGES = ("/billing/admin/dashboard", "/billing/admin/dashboard/open")


def _is_elevenlabs(detail: Any) -> bool:
    """A refusal in the vendor's own form: an object, or a list of what is wrong with the fields."""
    if isinstance(detail, list):
        return all({"loc", "msg", "type"} <= set(one) for one in detail)
    return {"status", "message"} <= set(detail)


def _code(answer: httpx.Response) -> str | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    if "code" in body:
        return str(body["code"])
    # The vendors' own forms have it inside.
    error = body.get("error", body.get("detail"))
    return error.get("code") if isinstance(error, dict) else None
