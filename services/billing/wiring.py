"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.billing.actions import Actions
from services.billing.actions.change_organisation_subscription import (
    ChangeOrganisationSubscription,
)
from services.billing.actions.change_subscription import ChangeSubscription, GrantSubscription
from services.billing.actions.end_organisation_subscriptions import EndOrganisationSubscriptions
from services.billing.actions.explain_usage import ExplainUsage
from services.billing.actions.export_user import ExportUser
from services.billing.actions.forget_user import ForgetUser
from services.billing.actions.list_usage import ExportUsage, ListUsage
from services.billing.actions.note_manifests import NoteManifests
from services.billing.actions.prepare_ledger import PrepareLedger
from services.billing.actions.rate_unpriced_usage import RateUnpricedUsage
from services.billing.actions.reconcile import Reconcile
from services.billing.actions.record_usage import RecordUsage
from services.billing.actions.report_usage import ReportUsage
from services.billing.actions.request_missing_usage import RequestMissingUsage
from services.billing.actions.set_price import SetPrice
from services.billing.actions.show_limits import ShowLimits
from services.billing.actions.show_organisation_subscription import ShowOrganisationSubscription
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.ports import (
    LimitCounters,
    NewUnitOfWork,
    Organisations,
)
from services.billing.domain.price_book import ListPrices
from services.billing.providers.list_prices import PublicPrices
from services.billing.settings import Settings
from services.billing.storage.limit_counters import ValkeyLimitCounters
from services.billing.storage.unit_of_work import SqlWork
from shared.clients.auth import open_auth
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.app import Check
from shared.identity import ServiceIdentity
from shared.limits.admission import open_cache
from shared.settings import service_database_url


@dataclass(frozen=True, slots=True)
class Wired:
    """Billing, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what billing needs and put it together; close it afterwards."""
    url = service_database_url(settings.database_url.get_secret_value(), "billing")
    cache = open_cache(settings.cache_url.get_secret_value())
    me = ServiceIdentity.from_file("billing", settings.identity_key_file)
    async with (
        open_database(
            url, connections=settings.database_connections, application="billing"
        ) as database,
        open_auth(settings.auth_internal_url, me) as organisations,
    ):
        try:
            yield Wired(
                actions=put_together(
                    lambda: SqlWork(database),
                    list_prices=PublicPrices(),
                    counters=ValkeyLimitCounters(cache),
                    organisations=organisations,
                    clock=SystemClock(),
                    settings=settings,
                ),
                database=database,
                # Not the cache: without it only the limits can't be shown, and they say so.
                checks={"database": database.check},
            )
        finally:
            await cache.aclose()


def put_together(
    unit_of_work: NewUnitOfWork,
    *,
    list_prices: ListPrices,
    counters: LimitCounters,
    organisations: Organisations,
    clock: Clock,
    settings: Settings,
) -> Actions:
    """The verbs over these ports."""
    list_usage = ListUsage(unit_of_work)
    export_usage = ExportUsage(list_usage)
    show_subscription = ShowSubscription(unit_of_work)
    patience = timedelta(seconds=settings.gap_patience_seconds)
    return Actions(
        record_usage=RecordUsage(unit_of_work, list_prices),
        note_manifests=NoteManifests(unit_of_work),
        request_missing_usage=RequestMissingUsage(unit_of_work, clock, patience),
        rate_unpriced_usage=RateUnpricedUsage(unit_of_work, list_prices, clock),
        prepare_ledger=PrepareLedger(unit_of_work, clock),
        report_usage=ReportUsage(unit_of_work, clock),
        list_usage=list_usage,
        export_usage=export_usage,
        explain_usage=ExplainUsage(unit_of_work),
        show_limits=ShowLimits(show_subscription, counters, clock),
        show_subscription=show_subscription,
        change_subscription=ChangeSubscription(
            unit_of_work, clock, unpaid_changes=settings.sandbox
        ),
        grant_subscription=GrantSubscription(unit_of_work, clock),
        show_organisation_subscription=ShowOrganisationSubscription(unit_of_work, organisations),
        change_organisation_subscription=ChangeOrganisationSubscription(
            unit_of_work, organisations, clock, unpaid_changes=settings.sandbox
        ),
        end_organisation_subscriptions=EndOrganisationSubscriptions(unit_of_work, clock),
        set_price=SetPrice(unit_of_work, clock),
        reconcile=Reconcile(unit_of_work),
        forget_user=ForgetUser(unit_of_work, clock),
        export_user=ExportUser(unit_of_work, show_subscription, export_usage),
    )
