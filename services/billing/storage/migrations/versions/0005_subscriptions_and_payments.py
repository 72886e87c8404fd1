"""Periods of subscriptions, charges and payments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)

# What was held until now was granted or chosen in a sandbox: it goes on without a period, and
# nobody is charged for it before they choose anew.
_BACKFILL = """
update subscription set state = case when tier <> 'free' then 'active' else 'ended' end
where tier <> 'free' or revision > 0
"""

_GUARD = """
create function keep_charges() returns trigger language plpgsql as $$
begin
    raise exception 'charges are append-only: no % of a charge', lower(tg_op)
        using errcode = 'restrict_violation';
end $$;
create trigger keep_charges before update or delete on charge
    for each row execute function keep_charges();
create trigger keep_all_charges before truncate on charge
    for each statement execute function keep_charges();
"""


def upgrade() -> None:
    _extend_subscription()
    op.add_column("subscription_change", sa.Column("state", sa.Text(), nullable=True))
    op.create_table(
        "plan_price",
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("effective_from", _MOMENT, nullable=False),
        sa.Column("microusd_per_seat_month", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.UUID(), nullable=False),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.CheckConstraint("microusd_per_seat_month >= 0", name=op.f("ck_plan_price_not_negative")),
        sa.PrimaryKeyConstraint("tier", "effective_from", name=op.f("pk_plan_price")),
    )
    _create_charge()
    _create_payment()
    op.create_table(
        "payer",
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=True),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("told_tier", sa.Text(), nullable=True),
        sa.Column("told_seats", sa.Integer(), nullable=True),
        sa.Column("told_ending", sa.Boolean(), nullable=True),
        sa.Column("last_told_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("holder_id", name=op.f("pk_payer")),
        sa.UniqueConstraint("provider", "customer", name=op.f("uq_payer_provider_customer")),
    )
    op.create_table(
        "payment_event",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("happened_at", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("provider", "event_id", name=op.f("pk_payment_event")),
    )
    op.create_table(
        "payment_cursor",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("moved_to", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_payment_cursor")),
    )
    op.execute(_BACKFILL)
    op.execute(_GUARD)


def _extend_subscription() -> None:
    for column in (
        sa.Column("state", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("anchor", _MOMENT, nullable=True),
        sa.Column("period_begins", _MOMENT, nullable=True),
        sa.Column("period_ends", _MOMENT, nullable=True),
        sa.Column("unit_price_microusd", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.Text(), nullable=True),
        sa.Column("next_tier", sa.Text(), nullable=True),
        sa.Column("next_seats", sa.Integer(), nullable=True),
        sa.Column("cancels", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("trial_used_at", _MOMENT, nullable=True),
        sa.Column("paid_ahead", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("owed_microusd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpaid_since", _MOMENT, nullable=True),
        sa.Column("dunning_step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_step_at", _MOMENT, nullable=True),
    ):
        op.add_column("subscription", column)
    op.create_check_constraint(
        op.f("ck_subscription_whole_period"),
        "subscription",
        "(period_begins is null) = (period_ends is null) and period_begins < period_ends",
    )
    op.create_check_constraint(
        op.f("ck_subscription_owed_since"),
        "subscription",
        "(owed_microusd > 0) = (unpaid_since is not null)",
    )
    op.create_index(
        "ix_subscription_next_step_at",
        "subscription",
        ["next_step_at"],
        unique=False,
        postgresql_where=sa.text("next_step_at is not null"),
    )
    op.create_index(
        "ix_subscription_past_due",
        "subscription",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("state = 'past_due'"),
    )


def _create_charge() -> None:
    op.create_table(
        "charge",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("unit_price_microusd", sa.BigInteger(), nullable=False),
        sa.Column("price_version", sa.Text(), nullable=False),
        sa.Column("begins", _MOMENT, nullable=False),
        sa.Column("ends", _MOMENT, nullable=False),
        sa.Column("amount_microusd", sa.BigInteger(), nullable=False),
        sa.Column("effect_key", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("charged_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_charge")),
        sa.UniqueConstraint("effect_key", name=op.f("uq_charge_effect_key")),
    )
    op.create_index("ix_charge_holder_id", "charge", ["holder_id", "id"], unique=False)


def _create_payment() -> None:
    op.create_table(
        "payment",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("is_organisation", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("amount_microusd", sa.BigInteger(), nullable=False),
        sa.Column("asked_by", sa.UUID(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("seats", sa.Integer(), nullable=True),
        sa.Column("unit_price_microusd", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("settled_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment")),
        sa.UniqueConstraint("provider", "reference", name=op.f("uq_payment_provider_reference")),
    )
    op.create_index("ix_payment_holder_id", "payment", ["holder_id", "id"], unique=False)
    op.create_index(
        "ix_payment_unused",
        "payment",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'unused'"),
    )
    op.create_index(
        "uq_payment_open_order",
        "payment",
        ["holder_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'order' and state = 'open'"),
    )


def downgrade() -> None:
    for table in ("payment_cursor", "payment_event", "payer", "payment", "charge", "plan_price"):
        op.drop_table(table)
    op.execute("drop function keep_charges()")
    op.drop_column("subscription_change", "state")
    op.drop_index("ix_subscription_past_due", table_name="subscription")
    op.drop_index("ix_subscription_next_step_at", table_name="subscription")
    op.drop_constraint(op.f("ck_subscription_owed_since"), "subscription")
    op.drop_constraint(op.f("ck_subscription_whole_period"), "subscription")
    for column in (
        "next_step_at",
        "dunning_step",
        "unpaid_since",
        "owed_microusd",
        "paid_ahead",
        "trial_used_at",
        "cancels",
        "next_seats",
        "next_tier",
        "price_version",
        "unit_price_microusd",
        "period_ends",
        "period_begins",
        "anchor",
        "state",
    ):
        op.drop_column("subscription", column)
