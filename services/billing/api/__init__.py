"""Billing's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.billing.api import account_export, admin, limits, plans, records, subscription, usage

routers = [
    limits.router,
    usage.router,
    records.router,
    plans.router,
    subscription.router,
    admin.router,
]

internal_routers = [account_export.router]

__all__ = ["internal_routers", "routers"]
