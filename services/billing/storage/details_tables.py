"""The table of billing details."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, UUID


def add_billing_details(metadata: MetaData) -> None:
    """Whom invoices of a user or of an organisation are made out to from now on."""
    Table(
        "billing_details",
        metadata,
        Column("holder_id", UUID(as_uuid=True), primary_key=True),
        Column("is_organisation", Boolean, nullable=False),
        Column("name", Text, nullable=False),
        Column("address_lines", ARRAY(Text), nullable=False),
        Column("city", Text, nullable=False),
        Column("postal_code", Text, nullable=False),
        Column("country", Text, nullable=False),
        Column("vat_id", Text),
        Column("email", Text),
        Column("purchase_order", Text),
        Column("changed_at", DateTime(timezone=True), nullable=False),
        # Since when it is kept for a last invoice alone.
        Column("left_at", DateTime(timezone=True)),
    )
