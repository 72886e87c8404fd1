"""Billing's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.billing.api import (
    account_export,
    admin,
    admin_subscriptions,
    corrections,
    limits,
    outside_usage,
    payments,
    periods,
    plans,
    records,
    subscription,
    usage,
)

routers = [
    limits.router,
    usage.router,
    outside_usage.router,
    records.router,
    plans.router,
    subscription.router,
    payments.router,
    admin.router,
    admin_subscriptions.router,
    corrections.router,
    periods.router,
]

internal_routers = [account_export.router]

__all__ = ["internal_routers", "routers"]
