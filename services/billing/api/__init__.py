"""Billing's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.billing.api import admin, limits, plans, records, subscription, usage

routers = [
    limits.router,
    usage.router,
    records.router,
    plans.router,
    subscription.router,
    admin.router,
]

__all__ = ["routers"]
