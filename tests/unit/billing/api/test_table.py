"""Figures as a file for a spreadsheet."""

from __future__ import annotations

from services.billing.api.admin_analytics import CostRow
from services.billing.api.table import as_csv, wants_csv


def test_no_name_is_a_formula_and_every_amount_is_a_number() -> None:
    row = CostRow(
        model="=1+1",
        requests=0,
        unpriced_requests=0,
        vendor_cost_microusd=-5,
        vendor_cost_usd="-0.000005",
        usage_fee_microusd=-3,
    )
    file = as_csv("costs", ["model", "vendor_cost_usd", "usage_fee_microusd"], [row])
    assert bytes(file.body).decode().splitlines() == [
        "model,vendor_cost_usd,usage_fee_microusd",
        "'=1+1,-0.000005,-3",
    ]


def test_a_file_is_for_who_asks_for_one() -> None:
    assert wants_csv("text/csv")
    assert wants_csv("application/json;q=0.1, text/*")
    assert not wants_csv(None)
    assert not wants_csv("application/x-ndjson")
