"""The tables of invoices and credit notes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

_Id = UUID(as_uuid=True)
_Moment = DateTime(timezone=True)
_Sum = Numeric(38, 0)  # no sum of 64-bit amounts can overflow it


def add_invoices(metadata: MetaData) -> None:
    """Runs, invoices with their lines and what those cover, credit notes, numbers and fees."""
    _add_runs(metadata)
    _add_documents(metadata)
    _add_lines(metadata)
    # The last number of each series and year: locked by whoever numbers a document, until they end.
    Table(
        "invoice_number",
        metadata,
        Column("series", Text, nullable=False),
        Column("year", Integer, nullable=False),
        Column("last", BigInteger, nullable=False),
        PrimaryKeyConstraint("series", "year"),
    )
    # What the operator charges for usage beside the vendor, from a moment on.
    Table(
        "usage_fee",
        metadata,
        Column("tier", Text, nullable=False),
        Column("effective_from", _Moment, nullable=False),
        Column("basis_points", Integer, nullable=False),
        Column("set_by", _Id, nullable=False),
        Column("set_at", _Moment, nullable=False),
        PrimaryKeyConstraint("tier", "effective_from"),
        CheckConstraint("basis_points between 0 and 10000", name="at_most_the_whole"),
    )


def _add_runs(metadata: MetaData) -> None:
    # What the run of a month covers: what was received up to `received_until`, without what the
    # run before it had covered.
    Table(
        "invoice_run",
        metadata,
        Column("month", Date, primary_key=True),
        Column("previous_ends", _Moment, nullable=False),
        Column("received_after", _Moment, nullable=False),
        Column("received_until", _Moment, nullable=False),
        Column("begun_at", _Moment, nullable=False),
        Column("begun_by", _Id),
        Column("holders", BigInteger, nullable=False),
        Column("invoices", BigInteger, nullable=False, server_default=text("0")),
        Column("finished_at", _Moment),
    )
    # Who still gets an invoice in a run, with the late entries that it has to cover.
    Table(
        "invoice_due",
        metadata,
        Column("month", Date, nullable=False),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        Column("late", ARRAY(_Id), nullable=False),
        PrimaryKeyConstraint("month", "holder_id"),
    )


def _amounts() -> list[Column[Any]]:
    return [
        Column("subtotal_microusd", _Sum, nullable=False),
        Column("net_cents", _Sum, nullable=False),
        Column("tax_lines", JSONB, nullable=False),
        Column("total_cents", _Sum, nullable=False),
        Column("carried_microusd", BigInteger, nullable=False),
        Column("billed_to", JSONB),
        Column("issued_at", _Moment, nullable=False),
    ]


def _add_documents(metadata: MetaData) -> None:
    # Appended and never changed, like everything of an invoice.
    Table(
        "invoice",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("number", Text, nullable=False),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        Column("month", Date, nullable=False),
        *_amounts(),
        Column("due_at", _Moment, nullable=False),
        UniqueConstraint("number"),
        UniqueConstraint("holder_id", "month"),
        Index("ix_invoice_month", "month", "id"),
    )
    Table(
        "credit_note",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("number", Text, nullable=False),
        Column("invoice_id", _Id, nullable=False),
        Column("holder_id", _Id, nullable=False),
        Column("is_organisation", Boolean, nullable=False),
        *_amounts(),
        Column("reason", Text, nullable=False),
        Column("issued_by", _Id, nullable=False),
        Column("idempotency_key", Text, nullable=False),
        Column("request_digest", Text, nullable=False),
        UniqueConstraint("number"),
        UniqueConstraint("invoice_id", "idempotency_key"),
        Index("ix_credit_note_holder_id", "holder_id", "id"),
    )


def _add_lines(metadata: MetaData) -> None:
    Table(
        "invoice_line",
        metadata,
        Column("id", _Id, primary_key=True),
        Column("invoice_id", _Id, nullable=False),
        Column("position", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("facts", JSONB, nullable=False),
        Column("quantity", _Sum, nullable=False),
        Column("unit", Text, nullable=False),
        Column("vendor_cost_microusd", _Sum),
        Column("amount_microusd", _Sum, nullable=False),
        Column("items", BigInteger, nullable=False),
        Column("ids_digest", Text, nullable=False),
        UniqueConstraint("invoice_id", "position"),
    )
    # Lines about the same money as others: what is charged of them is given back once. The families
    # of the others are themselves.
    Table(
        "invoice_line_family",
        metadata,
        Column("line_id", _Id, primary_key=True),
        Column("family_id", _Id, nullable=False),
        Index("ix_invoice_line_family_family_id", "family_id"),
    )
    # What each line stands for. The key is what makes an invoice run harmless when it is repeated:
    # a charge, an entry, a correction or a carried rest is on one line, or the work fails.
    Table(
        "invoice_item",
        metadata,
        Column("source_id", _Id, nullable=False),
        Column("aspect", Text, nullable=False),
        Column("line_id", _Id, nullable=False),
        Column("holder_id", _Id, nullable=False),
        Column("unpriced", Boolean, nullable=False),
        PrimaryKeyConstraint("source_id", "aspect"),
        CheckConstraint(
            "aspect in ('charge', 'usage', 'priced', 'correction', 'carry')", name="known_aspect"
        ),
        Index("ix_invoice_item_line_id", "line_id", "source_id"),
        Index("ix_invoice_item_unpriced", "holder_id", postgresql_where=text("unpriced")),
        # Usage has an item each, and what else there is would be looked for among them.
        Index(
            "ix_invoice_item_but_usage",
            "source_id",
            "aspect",
            postgresql_where=text("aspect <> 'usage'"),
        ),
    )
    Table(
        "credit_note_line",
        metadata,
        Column("credit_note_id", _Id, nullable=False),
        Column("position", Integer, nullable=False),
        Column("line_id", _Id, nullable=False),
        Column("amount_microusd", _Sum, nullable=False),
        PrimaryKeyConstraint("credit_note_id", "position"),
        Index("ix_credit_note_line_line_id", "line_id"),
    )
