"""The tables of subscriptions, of what is charged for them, and of who pays."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)
_NOW = text("now()")


def add_subscriptions(metadata: MetaData) -> None:
    """What is held, what was charged and paid for it, and what payment providers know."""
    _add_subscription(metadata)
    _add_prices_and_charges(metadata)
    _add_payment(metadata)
    _add_payer(metadata)
    _add_payment_news(metadata)
    _add_change(metadata)
    # Who decided in an organisation that is gone, and still reads its books.
    Table(
        "organisation_reader",
        metadata,
        Column("user_id", _Id, nullable=False),
        Column("organisation_id", _Id, nullable=False),
        PrimaryKeyConstraint("user_id", "organisation_id"),
    )


def _add_subscription(metadata: MetaData) -> None:
    Table(
        "subscription",
        metadata,
        Column("user_id", _Id, primary_key=True),
        Column("tier", Text, nullable=False),
        Column("seats", Integer, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("changed_at", _Moment),
        # Then `user_id` is the organisation's id.
        Column("is_organisation", Boolean, nullable=False, server_default=text("false")),
        Column("state", Text, nullable=False, server_default=text("'none'")),
        # Periods begin so many months after the anchor. Without a period nobody pays.
        Column("anchor", _Moment),
        Column("period_begins", _Moment),
        Column("period_ends", _Moment),
        Column("unit_price_microusd", BigInteger),
        Column("price_version", Text),
        Column("next_tier", Text),
        Column("next_seats", Integer),
        Column("cancels", Boolean, nullable=False, server_default=text("false")),
        Column("trial_used_at", _Moment),
        Column("paid_ahead", Integer, nullable=False, server_default=text("0")),
        Column("owed_microusd", BigInteger, nullable=False, server_default=text("0")),
        Column("unpaid_since", _Moment),
        Column("dunning_step", Integer, nullable=False, server_default=text("0")),
        Column("next_step_at", _Moment),
        # When what is held, and what is planned, was last decided: a payment that is late or
        # came again changes neither.
        Column("terms_revision", BigInteger, nullable=False, server_default=text("0")),
        Column("plan_revision", BigInteger, nullable=False, server_default=text("0")),
        Column("planned_at", _Moment),
        # Of an organisation that is gone. Its row stays: it tells apart whose changes they were.
        Column("dissolved_at", _Moment),
        CheckConstraint("seats >= 1", name="at_least_one_seat"),
        CheckConstraint(
            "(period_begins is null) = (period_ends is null) and period_begins < period_ends",
            name="whole_period",
        ),
        CheckConstraint("(owed_microusd > 0) = (unpaid_since is not null)", name="owed_since"),
        Index(
            "ix_subscription_next_step_at",
            "next_step_at",
            postgresql_where=text("next_step_at is not null"),
        ),
        Index("ix_subscription_past_due", "user_id", postgresql_where=text("state = 'past_due'")),
    )


def _add_prices_and_charges(metadata: MetaData) -> None:
    # The operator's own prices of tiers; those of the tier table stand behind them.
    Table(
        "plan_price",
        metadata,
        Column("tier", Text, nullable=False),
        Column("effective_from", _Moment, nullable=False),
        Column("microusd_per_seat_month", BigInteger, nullable=False),
        Column("set_by", _Id, nullable=False),
        Column("set_at", _Moment, nullable=False),
        PrimaryKeyConstraint("tier", "effective_from"),
        CheckConstraint("microusd_per_seat_month >= 0", name="not_negative"),
    )
    # What was charged, appended and never changed: the lines that an invoice is made of.
    Table(
        "charge",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        Column("kind", Text, nullable=False),
        Column("tier", Text, nullable=False),
        Column("seats", Integer, nullable=False),
        Column("unit_price_microusd", BigInteger, nullable=False),
        Column("price_version", Text, nullable=False),
        Column("begins", _Moment, nullable=False),
        Column("ends", _Moment, nullable=False),
        Column("amount_microusd", BigInteger, nullable=False),
        # What this is the charge for: nothing is charged twice.
        Column("effect_key", Text, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("charged_at", _Moment, nullable=False),
        UniqueConstraint("effect_key"),
        Index("ix_charge_holder_id", "holder_id", "id"),
    )


def _add_payment(metadata: MetaData) -> None:
    Table(
        "payment",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        Column("kind", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("amount_microusd", BigInteger, nullable=False),
        Column("asked_by", _Id, nullable=False),
        Column("created_at", _Moment, nullable=False),
        Column("tier", Text),
        Column("seats", Integer),
        Column("unit_price_microusd", BigInteger),
        Column("price_version", Text),
        Column("reference", Text),
        Column("checkout_url", Text),
        Column("settled_at", _Moment),
        # What the billing team says of money that it books by hand.
        Column("note", Text),
        # The unused payment that is dealt with by it.
        Column("settles", _Id),
        # The revision of the subscription that an order was made on, and the one that had decided
        # what was held then.
        Column("base_revision", BigInteger),
        Column("base_terms_revision", BigInteger),
        UniqueConstraint("provider", "reference"),
        Index("ix_payment_holder_id", "holder_id", "id"),
        Index("ix_payment_unused", "id", postgresql_where=text("state = 'unused'")),
        # A new wish takes the place of the one before.
        Index(
            "uq_payment_open_order",
            "holder_id",
            unique=True,
            postgresql_where=text("kind = 'order' and state = 'open'"),
        ),
    )


def _add_payer(metadata: MetaData) -> None:
    # The payment provider's side of a holder, and what it was told last.
    Table(
        "payer",
        metadata,
        Column("holder_id", _Id, primary_key=True),
        Column("is_organisation", Boolean, nullable=False),
        Column("provider", Text, nullable=False),
        Column("customer", Text, nullable=False),
        Column("subscription", Text),
        Column("item", Text),
        Column("told_tier", Text),
        Column("told_seats", Integer),
        Column("told_ending", Boolean),
        Column("last_told_at", _Moment),
        # Whom the provider refuses waits, so that others are told.
        Column("tries", Integer, nullable=False, server_default=text("0")),
        Column("next_try_at", _Moment),
        UniqueConstraint("provider", "customer"),
    )
    # Subscriptions of payment providers' that nobody needs, until they are ended there.
    Table(
        "spare_subscription",
        metadata,
        Column("provider", Text, nullable=False),
        Column("subscription", Text, nullable=False),
        Column("customer", Text, nullable=False),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        Column("noted_at", _Moment, nullable=False, server_default=_NOW),
        Column("tries", Integer, nullable=False, server_default=text("0")),
        Column("next_try_at", _Moment),
        Column("ended_at", _Moment),
        PrimaryKeyConstraint("provider", "subscription"),
        Index("ix_spare_subscription_customer", "provider", "customer"),
        Index(
            "ix_spare_subscription_waiting",
            "noted_at",
            postgresql_where=text("ended_at is null"),
        ),
    )


def _add_payment_news(metadata: MetaData) -> None:
    # What payment providers told, each event once.
    Table(
        "payment_event",
        metadata,
        Column("provider", Text, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("happened_at", _Moment, nullable=False),
        Column("received_at", _Moment, nullable=False, server_default=_NOW),
        PrimaryKeyConstraint("provider", "event_id"),
    )
    # How far a payment provider's list of events was read.
    Table(
        "payment_cursor",
        metadata,
        Column("provider", Text, primary_key=True),
        Column("event_id", Text, nullable=False),
        Column("moved_to", _Moment, nullable=False),
    )


def _add_change(metadata: MetaData) -> None:
    # Every change, so that a month can be charged by what held when.
    Table(
        "subscription_change",
        metadata,
        Column("user_id", _Id, nullable=False),
        Column("revision", BigInteger, nullable=False),
        Column("tier", Text, nullable=False),
        Column("seats", Integer, nullable=False),
        Column("changed_at", _Moment, nullable=False),
        Column("changed_by", _Id, nullable=False),
        Column("state", Text),
        PrimaryKeyConstraint("user_id", "revision"),
        Index(
            "ix_subscription_change_trial",
            "changed_by",
            postgresql_where=text("state = 'trialing'"),
        ),
    )
