"""How long the billing team waits for the dashboard: `python -m bench.analytics [--rows N]`.

A million rows of `usage_day`, and what the rollups hold of them: 40,000 users in six months, a
tenth of whom pay. The figures are those of the page's own reads and of its drawing.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psutil

from services.billing.actions.analyse import Analyse, Overview
from services.billing.api.dashboard_page import dashboard
from services.billing.domain.analytics import Days, Facet, Grain, Months
from services.billing.storage.unit_of_work import SqlWork
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.support.engines import running_postgres

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
_USERS = 40_000
_DAYS = 180
_ID = "md5('user' || {n})::uuid"

_USAGE_DAY = f"""
insert into usage_day (user_id, day, provider, model, operation, sandbox, requests,
    unpriced_requests, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
    output_reasoning_tokens, characters, cost_microusd)
select {_ID.format(n=f"(n % {_USERS})")}, $1::date - (n * 7919 / {_USERS} % {_DAYS})::int,
       'openai', 'model-' || n % 3, 'chat', false, 10, 0, 1000, 0, 0, 100, 0, 0, 5000
from generate_series(1, $2::bigint) as n
on conflict do nothing
"""
_ACTIVITY = """
insert into user_activity (grain, begins, service, user_id, tier, last_at)
select g.grain, date_trunc(g.grain, d.day::timestamp)::date, s.service, d.user_id,
       case when get_byte(uuid_send(d.user_id), 0) < 25 then 'pro' else 'free' end, max(d.day)
from usage_day d
cross join (values ('day'), ('week'), ('month')) as g (grain)
cross join (values ('all'), ('chat')) as s (service)
group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4
"""
_TOTAL = """
insert into usage_total (day, tier, service, provider, model, operation, requests,
    unpriced_requests, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
    output_reasoning_tokens, characters, cost_microusd)
select day, case when get_byte(uuid_send(user_id), 0) < 25 then 'pro' else 'free' end, 'chat',
       provider, model, operation, sum(requests), 0, sum(input_tokens), 0, 0, sum(output_tokens),
       0, 0, sum(cost_microusd)
from usage_day group by 1, 2, 3, 4, 5, 6
"""
_SEEN = """
insert into user_first_seen (user_id, day) select user_id, min(day) from usage_day group by 1
"""
_CHARGES = """
insert into charge (id, holder_id, is_organisation, kind, tier, seats, unit_price_microusd,
    price_version, begins, ends, amount_microusd, effect_key, revision, charged_at)
select gen_random_uuid(), u.user_id, false, 'period_fee', 'pro', 1, 9000000, 'bench',
       m.begins, m.begins + interval '1 month', 9000000, u.user_id || '/' || m.begins, 1, m.begins
from (select user_id, day from user_first_seen where get_byte(uuid_send(user_id), 0) < 25) as u
cross join lateral generate_series(
    u.day::timestamp at time zone 'UTC', $1::timestamptz, interval '1 month'
) as m (begins)
"""
_CHANGES = """
insert into subscription_change (user_id, revision, tier, seats, changed_at, changed_by, state)
select user_id, 1, 'pro', 1, day::timestamp at time zone 'UTC', user_id, 'active'
from user_first_seen where get_byte(uuid_send(user_id), 0) < 25
"""


class _Then:
    def now(self) -> datetime:
        return NOW


async def _fill(database: Database, rows: int) -> None:
    patience = 600.0
    async with SqlWork(database) as work:
        fill = work.connection
        # What is grouped and sorted here is larger than what a server's page is given.
        await fill.execute("set local work_mem = '512MB'")
        await fill.execute(_USAGE_DAY, NOW.date(), rows, timeout=patience)
        for statement in (_ACTIVITY, _TOTAL, _SEEN, _CHANGES):
            await fill.execute(statement, timeout=patience)
        await fill.execute(_CHARGES, NOW, timeout=patience)
    # As autovacuum would have it, which is off here.
    for table in ("user_activity", "user_first_seen", "charge", "usage_total"):
        await database.execute(f"vacuum analyze {table}")
    await database.execute("analyze")


def _cpu_seconds(backend: int) -> float:
    theirs = psutil.Process(backend).cpu_times()
    return time.process_time() + theirs.user + theirs.system


async def _timed(
    what: str, ask: Callable[[], Awaitable[object]], rounds: int, backend: int
) -> None:
    times, used = [], []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), _cpu_seconds(backend)
        await ask()
        times.append((time.perf_counter() - began) * 1000)
        used.append((_cpu_seconds(backend) - cpu) * 1000)
    line = f"{median(times):8.0f} ms, of CPU (ours and PostgreSQL's) {median(used):8.0f}"
    print(f"{what:32} {line}", flush=True)


async def measure(url: str, rows: int, rounds: int) -> None:
    """Fill a database, and read it as the page does."""
    async with open_database(url, connections=1, application="bench") as database:
        began = time.perf_counter()
        await _fill(database, rows)
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        for table in ("usage_day", "user_activity", "usage_total", "charge"):
            [counted] = await database.fetch(f"select count(*) as rows from {table}")
            print(f"{table:32} {counted['rows']:>10,} rows")
        analyse = Analyse(lambda: SqlWork(database), _Then(), 20)
        months = Months.within(None, None, now=NOW)
        days = Days.of(months)
        async with SqlWork(database) as work:
            known = work.analytics
            row = await work.connection.fetchrow("select pg_backend_pid() as pid")
            assert row is not None
            backend = row["pid"]
            parts: dict[str, Callable[[], Awaitable[object]]] = {
                "revenue": lambda: known.revenue(months),
                "churn": lambda: known.churn(months),
                "active by day": lambda: known.active(
                    days, Grain.DAY, by_tier=False, by_service=False
                ),
                "active by month": lambda: known.active(
                    days, Grain.MONTH, by_tier=True, by_service=False
                ),
                "conversion": lambda: known.conversion(months, timedelta(days=30)),
                "retention": lambda: known.retention(months),
                "costs": lambda: known.usage(days, (Facet.PROVIDER, Facet.MODEL)),
            }
            for name, ask in parts.items():
                await _timed(name, ask, rounds, backend)
        found: list[Overview] = []

        async def page() -> None:
            found[:] = [await analyse.overview(None, None)]
            dashboard(found[0])

        await _timed("the page, with its drawing", page, rounds, backend)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_postgres(Path(directory)) as server:
        server.create_database("companion_billing")
        url = service_database_url(server.url, "billing")
        upgrade("billing", url)
        asyncio.run(measure(url, asked.rows, asked.rounds))


if __name__ == "__main__":
    main()
