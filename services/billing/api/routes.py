"""Billing's doors for HTTP, in the order of the documentation."""

from __future__ import annotations

from services.billing.api import (
    account_export,
    admin,
    admin_analytics,
    admin_exports,
    admin_invoices,
    admin_subscriptions,
    aged_usage,
    alerts,
    balance,
    billing_details,
    corrections,
    dashboard,
    held_usage,
    invoices,
    limits,
    organisation_usage,
    outside_usage,
    payments,
    periods,
    plans,
    records,
    staff_looks,
    subscription,
    team_lookups,
    usage,
    webhooks,
)

routers = [
    limits.router,
    usage.router,
    organisation_usage.router,
    outside_usage.router,
    records.router,
    plans.router,
    subscription.router,
    payments.router,
    alerts.router,
    webhooks.router,
    webhooks.staff_router,
    billing_details.router,
    balance.router,
    staff_looks.router,
    invoices.router,
    admin.router,
    admin_exports.router,
    admin_subscriptions.router,
    corrections.router,
    periods.router,
    aged_usage.router,
    held_usage.router,
    balance.team_router,
    staff_looks.team_router,
    admin_invoices.router,
    team_lookups.router,
    admin_analytics.router,
    dashboard.router,
]

internal_routers = [account_export.router]

__all__ = ["internal_routers", "routers"]
