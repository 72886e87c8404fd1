"""How long the invoices of a month take: `python -m bench.invoices [--subscriptions N]`.

A month of so many subscriptions, each with a fee and some usage by two models, and every tenth with
a proration. Measured from the first statement of the run to its last page, on the embedded
PostgreSQL; `--hasty` lets it wait for no disk.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta

import structlog

from bench.ledger import _bench_database, _table
from bench.processes import Meter
from services.billing.actions.make_invoices import MakeInvoices
from services.billing.domain.closing import Month
from services.billing.domain.invoicing import Terms
from services.billing.providers.tax import NoTax
from services.billing.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database

MONTH = Month.named("2026-10")

_HOLDER = "('018f0000-0000-7000-8000-' || lpad(to_hex({0}), 12, '0'))::uuid"
_CHARGES = f"""
insert into charge
select ('018f1{{0}}00-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, {_HOLDER.format("n")},
       false, $2::text, 'pro', 1, 15000000, 'tiers/15000000', $3::timestamptz,
       $3::timestamptz + interval '1 month', $4::bigint, $2::text || '/' || n, 1, $3::timestamptz
from generate_series(1, $1::int) as n where n % $5::int = 0
"""
_USAGE = f"""
insert into ledger_entry (
    event_id, user_id, tier, operation, provider, model, source, outcome, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens, characters,
    request_id, sandbox, producer, occurred_at, pricing_status, cost_microusd, price_version,
    rated_at
)
select (lpad(to_hex((extract(epoch from $3::timestamptz + interval '1 hour' * k) * 1000)::bigint),
             12, '0') || '7000' || '8'
        || lpad(to_hex(k), 3, '0') || lpad(to_hex(n), 12, '0'))::uuid,
       {_HOLDER.format("n")}, 'pro', 'chat', 'openai',
       case when k % 2 = 0 then 'gpt-6-luna' else 'gpt-6.1-sol' end, 'provider', 'done',
       1200, 1000, 0, 350, 0, 0, 'req', false, 'chat',
       $3::timestamptz + interval '1 hour' * k, 'rated', 205, 'list/1', now()
from generate_series(1, $1::int) as n, generate_series(1, $2::int) as k
"""
_CLOSED = """
insert into period (month, closed_at, closed_by, waived, totals, digest)
values ($1, clock_timestamp(), gen_random_uuid(), '[]', '{"events": 0, "ids": "0", "groups": [],
        "corrections": 0, "corrected_cost_microusd": 0}', '')
"""
_FEE = "insert into usage_fee values ('pro', '2020-01-01Z', 250, gen_random_uuid(), now())"
_CHECK = """
select (select count(*) from invoice) as invoices, (select count(*) from invoice_line) as lines,
       (select count(*) from invoice_item) as items,
       (select max(right(number, 6)::int) from invoice) as last,
       (select sum(amount_microusd) from invoice_line) as amount,
       (select sum(amount_microusd) from charge) as charged
"""


def main() -> None:
    """Fill, run, and print one line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    parser = argparse.ArgumentParser(prog="python -m bench.invoices", description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=20_000)
    parser.add_argument("--usage", type=int, default=20, help="paid calls of each in the month")
    parser.add_argument("--hasty", action="store_true", help="a PostgreSQL that waits for no disk")
    print(asyncio.run(measure(parser.parse_args())))


async def measure(arguments: argparse.Namespace) -> str:
    """Seconds of the run, its list of holders apart."""
    async with _bench_database(hasty=arguments.hasty) as bench:
        print("filling ...", file=sys.stderr)
        await _fill(bench.database, arguments.subscriptions, arguments.usage)
        print("running ...", file=sys.stderr)
        terms = Terms("TT", timedelta(days=14), NoTax())
        make = MakeInvoices(lambda: SqlWork(bench.database), SystemClock(), terms)
        meter = Meter({"client": os.getpid(), "server": bench.server.child.pid})
        began = time.perf_counter()
        await make(MONTH, by=None, within=timedelta())
        listed = time.perf_counter() - began
        run = await make(MONTH, by=None, within=timedelta(hours=2))
        seconds = time.perf_counter() - began
        cpu = sum(meter.spent().values())
        assert run.finished_at is not None
        row = await bench.database.fetchrow(_CHECK)
    assert row is not None
    assert row["invoices"] == row["last"] == arguments.subscriptions
    return _table(
        [
            "subscriptions",
            "lines",
            "records",
            "list and first page s",
            "whole run s",
            "invoices/s",
            "CPU s",
        ],
        [
            [
                str(row["invoices"]),
                str(row["lines"]),
                str(row["items"]),
                f"{listed:.1f}",
                f"{seconds:.1f}",
                f"{row['invoices'] / seconds:.0f}",
                f"{cpu:.1f}",
            ]
        ],
    )


async def _fill(database: Database, subscriptions: int, usage: int) -> None:
    begins = datetime(2026, 10, 5, tzinfo=UTC)
    async with database.connection() as connection:
        for number, (kind, amount, every) in enumerate(
            (("period_fee", 15_000_000, 1), ("proration_credit", -3_333_333, 10))
        ):
            await connection.execute(
                _CHARGES.format(number), subscriptions, kind, begins, amount, every, timeout=1800
            )
        await connection.execute(_USAGE, subscriptions, usage, begins, timeout=1800)
        await connection.execute("analyze", timeout=600)
        await connection.execute(_FEE)
        await connection.execute(_CLOSED, MONTH.first_day)


if __name__ == "__main__":
    main()
