"""Verbs of billing: the table of contents of what it can do."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Actions:
    """Everything billing can do."""

    record_usage: RecordUsage
    note_manifests: NoteManifests
    request_missing_usage: RequestMissingUsage
    rate_unpriced_usage: RateUnpricedUsage
    prepare_ledger: PrepareLedger
    report_usage: ReportUsage
    list_usage: ListUsage
    export_usage: ExportUsage
    explain_usage: ExplainUsage
    show_limits: ShowLimits
    show_subscription: ShowSubscription
    change_subscription: ChangeSubscription
    grant_subscription: GrantSubscription
    show_organisation_subscription: ShowOrganisationSubscription
    change_organisation_subscription: ChangeOrganisationSubscription
    end_organisation_subscriptions: EndOrganisationSubscriptions
    set_price: SetPrice
    reconcile: Reconcile
    forget_user: ForgetUser
    export_user: ExportUser
