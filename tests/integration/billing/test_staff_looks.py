"""Who of the billing team looked at whose data."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.integration.billing.harness import Billing


async def look(billing: Billing, staff: UUID, path: str, **params: Any) -> int:
    answer = await billing.send("GET", path, staff, role="billing", params=params)
    return answer.status_code


async def looks(billing: Billing, who: UUID, path: str, **params: Any) -> list[dict[str, Any]]:
    role = "billing" if path.startswith("admin") else "member"
    answer = await billing.send("GET", path, who, role=role, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_whoever_looks_at_one_persons_books_is_noted(billing: Billing) -> None:
    ada, staff, other = uuid4(), uuid4(), uuid4()
    paths = (f"admin/balances/{ada}", "admin/payments/orders", "admin/invoices")
    assert await look(billing, staff, paths[0], reason="a call of hers") == 200
    assert await look(billing, staff, paths[1], holder=str(ada)) == 200
    assert await look(billing, other, paths[2], holder=str(ada)) == 200
    assert await look(billing, other, "admin/credit-notes", holder=str(ada)) == 200
    # Nothing to show is a look, too.
    preview = {"holder": str(ada), "month": "2026-10"}
    assert await look(billing, other, "admin/invoices/preview", **preview) == 404
    noted = await looks(billing, staff, "admin/looks", holder=str(ada))
    assert [(one["by"], one["call"], one["reason"]) for one in reversed(noted)] == [
        (str(staff), "GET /billing/admin/balances/{holder_id}", "a call of hers"),
        (str(staff), "GET /billing/admin/payments/orders", None),
        (str(other), "GET /billing/admin/invoices", None),
        (str(other), "GET /billing/admin/credit-notes", None),
        (str(other), "GET /billing/admin/invoices/preview", None),
    ]
    assert {one["holder_id"] for one in noted} == {str(ada)}
    by_other = await looks(billing, staff, "admin/looks", looked_by=str(other))
    assert [one["id"] for one in by_other] == [one["id"] for one in noted[:3]]
    both = await looks(
        billing, staff, "admin/looks", looked_by=str(other), holder=str(ada), limit=2
    )
    assert both == noted[:2]
    # Whom it is about sees when and why, and not who.
    [*mine] = await looks(billing, ada, "looks")
    hidden = [
        {key: value for key, value in one.items() if key not in ("by", "holder_id")}
        for one in noted
    ]
    assert mine == hidden
    assert await looks(billing, uuid4(), "looks") == []


async def test_what_is_of_nobody_or_refused_is_no_look(billing: Billing) -> None:
    ada, staff = uuid4(), uuid4()
    for path in ("admin/invoices", "admin/credit-notes", "admin/payments/unused"):
        assert await look(billing, staff, path) == 200
    refused = await billing.get(f"admin/balances/{ada}", staff)
    assert refused.status_code == 403
    for reason in ("", "x" * 301, "a\x00b"):
        assert await look(billing, staff, f"admin/balances/{ada}", reason=reason) == 422
    assert await looks(billing, staff, "admin/looks", looked_by=str(staff)) == []
    assert await look(billing, staff, "admin/looks", cursor="!") == 422
    answer = await billing.send("GET", "admin/looks", ada)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_billing_staff")


async def test_the_trail_is_read_page_by_page_and_can_not_be_changed(billing: Billing) -> None:
    ada, staff = uuid4(), uuid4()
    for number in range(3):
        await look(billing, staff, f"admin/balances/{ada}", reason=f"look {number}")
    params: dict[str, str] = {"holder": str(ada), "limit": "2"}
    first = (await billing.send("GET", "admin/looks", staff, role="billing", params=params)).json()
    params["cursor"] = first["next_cursor"]
    second = (await billing.send("GET", "admin/looks", staff, role="billing", params=params)).json()
    reasons = [one["reason"] for one in (*first["data"], *second["data"])]
    assert (reasons, second["next_cursor"]) == (["look 2", "look 1", "look 0"], None)
    for statement in (
        "update staff_look set reason = null",
        "delete from staff_look",
        "truncate staff_look",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await billing.database.execute(statement)


async def test_what_can_not_be_noted_is_not_shown(
    billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.billing.storage import staff_looks

    monkeypatch.setattr(
        staff_looks,
        "_ADD",
        "select 1 / 0 where $1::uuid is not null"
        " and $2::timestamptz is not null and $3::uuid is not null and $4::uuid is not null"
        " and $5::text is not null and $6::text is null",
    )
    ada = uuid4()
    answer = await billing.send("GET", f"admin/balances/{ada}", uuid4(), role="billing")
    assert answer.status_code == 500
    assert "owed" not in json.dumps(answer.json())
