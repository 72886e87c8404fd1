"""Entries are counted in their hours when they get their links: those that wait for both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

contracts = (
    "The check of an hour's sums, which no code relies on: one may be ahead of the other now."
)

_ID = postgresql.UUID(as_uuid=True)


def upgrade() -> None:
    # Apart from what the release before notes, whose hours are counted: it would link these and
    # count them nowhere.
    op.create_table(
        "ledger_uncounted",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("ids", postgresql.ARRAY(_ID), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("marks", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_uncounted")),
    )
    for column in ("ids", "marks"):
        op.execute(f"alter table ledger_uncounted alter column {column} set storage external")
    # A rating or a correction may be counted before its entry is.
    op.drop_constraint(op.f("ck_usage_hour_unpriced_are_requests"), "usage_hour", type_="check")


_COUNT = """
insert into usage_hour as known (
    user_id, hour, provider, model, operation, sandbox, requests, unpriced_requests,
    input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens,
    characters, cost_microusd)
select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model, operation, sandbox,
       count(*), count(*) filter (where (rated_at <= received_at) is not true),
       sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens),
       sum(output_reasoning_tokens), sum(characters),
       coalesce(sum(cost_microusd) filter (where rated_at <= received_at), 0)
from ledger_uncounted u join ledger_entry e on e.event_id = any(u.ids)
group by 1, 2, 3, 4, 5, 6
order by 1, 2, 3, 4, 5, 6
on conflict (user_id, hour, provider, model, operation, sandbox) do update set
    requests = known.requests + excluded.requests,
    unpriced_requests = known.unpriced_requests + excluded.unpriced_requests,
    input_tokens = known.input_tokens + excluded.input_tokens,
    cache_read_tokens = known.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = known.cache_write_tokens + excluded.cache_write_tokens,
    output_tokens = known.output_tokens + excluded.output_tokens,
    output_reasoning_tokens = known.output_reasoning_tokens + excluded.output_reasoning_tokens,
    characters = known.characters + excluded.characters,
    cost_microusd = known.cost_microusd + excluded.cost_microusd
"""
_MOVE = """
insert into ledger_unlinked (kind, ids, noted_at)
select 'entry', array_agg(e.event_id order by e.event_id), min(u.noted_at)
from ledger_uncounted u join ledger_entry e on e.event_id = any(u.ids)
where e.key_organisation_id is null group by u.id order by u.id
"""
_MOVE_OF_ORGANISATIONS = """
insert into ledger_unlinked_of_organisation (ids, noted_at)
select array_agg(e.event_id order by e.event_id), min(u.noted_at)
from ledger_uncounted u join ledger_entry e on e.event_id = any(u.ids)
where e.key_organisation_id is not null group by u.id order by u.id
"""


def downgrade() -> None:
    # Whoever took the last of them in has ended by now.
    op.execute("lock table ledger_uncounted in access exclusive mode")
    for statement in (_COUNT, _MOVE, _MOVE_OF_ORGANISATIONS):
        op.execute(statement)
    op.drop_table("ledger_uncounted")
    op.create_check_constraint(
        op.f("ck_usage_hour_unpriced_are_requests"),
        "usage_hour",
        "unpriced_requests between 0 and requests",
    )
