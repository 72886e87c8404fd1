"""What billing's verbs need, in billing's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.billing.domain.aged_usage import AgedUsages
from services.billing.domain.analytics_ports import Activity, Analytics, DashboardPasses
from services.billing.domain.balance import Accounts
from services.billing.domain.billing_details import DetailsBook
from services.billing.domain.charge import Charge, ChargeId
from services.billing.domain.completeness import Gap, Progress, Stream
from services.billing.domain.completeness_ports import (
    LimitAlerts,
    Manifests,
    OutsideUsage,
    Periods,
    PriceEffects,
)
from services.billing.domain.export_ports import UsageExports, UsageRows
from services.billing.domain.invoice_ports import (
    CreditNotes,
    InvoiceRuns,
    Invoices,
    UsageFees,
)
from services.billing.domain.ledger import Entry
from services.billing.domain.ledger_ports import (
    Corrections,
    LedgerArchive,
    LedgerChain,
    Rollups,
)
from services.billing.domain.limits import LimitStanding
from services.billing.domain.organisation_usage import Key, KeyDimension, KeySpending
from services.billing.domain.payment import (
    Checkout,
    News,
    Payer,
    Payment,
    PaymentId,
    PaymentKind,
    Wish,
)
from services.billing.domain.period import Period
from services.billing.domain.plan_price import PlanPrice, PlanPrices
from services.billing.domain.price_book import Model, PriceId, PriceOverride
from services.billing.domain.staff_look import StaffLooks
from services.billing.domain.subscription import Subscription
from services.billing.domain.usage_columns import UsageColumns
from services.billing.domain.usage_report import Dimension, Group
from services.billing.domain.webhook_ports import SpendAlerts, WebhookOutbox, Webhooks
from shared.erasure import ForgottenUsers
from shared.events import Event
from shared.ids import EventId, UserId
from shared.tiers import Tier
from shared.values import dataclass

Position = tuple[datetime, EventId]  # where a page of a user's entries ends


class RecordedBefore(Exception):
    """Some of the usage is in the ledger already."""


class Ledger(Protocol):
    """The append-only ledger, and what its hourly sums tell: those follow with the links."""

    async def record(self, entries: Sequence[Entry]) -> int:
        """Add those that are not there yet; answers how many that were."""
        ...

    async def record_columns(self, usage: UsageColumns) -> int: ...

    async def add_columns(self, usage: UsageColumns) -> int:
        """The same at less cost for what is expected to be new. Raises RecordedBefore where any of
        it is not: then nothing of this work can stand."""
        ...

    async def get(self, event_id: EventId) -> Entry | None: ...

    async def of_user(
        self, user_id: UserId, *, period: Period, after: Position | None, most: int
    ) -> Sequence[Entry]:
        """The newest first, after a position."""
        ...

    async def report(
        self,
        user_id: UserId,
        period: Period,
        dimensions: Sequence[Dimension],
        *,
        sandbox: bool | None,
    ) -> Sequence[Group]:
        """Sums over whole hours."""
        ...


class KeySpendings(Protocol):
    """What ran on organisations' keys."""

    async def of(
        self,
        organisation_id: UUID,
        period: Period,
        dimensions: Sequence[KeyDimension],
        *,
        sandbox: bool | None,
        after: Sequence[Key] | None,
        most: int,
    ) -> KeySpending:
        """Sums over whole hours, with the groups after that of some keys."""
        ...


class UnpricedUsage(Protocol):
    """Entries that wait for a price."""

    async def models(self, *, of_sandbox: bool) -> Sequence[tuple[Model, int]]:
        """The models they are of, and how many of each; with or without the sandbox's, which are
        never charged."""
        ...

    async def page(self, model: Model, *, since: datetime | None, most: int) -> Sequence[Entry]:
        """The next ones of a model, oldest id first, locked until the work ends. Goes on where the
        last call stopped, and begins again once the end was reached."""
        ...

    async def rate(self, entries: Sequence[Entry]) -> None:
        """Keep the ratings of entries that now have one."""
        ...


class Prices(Protocol):
    """The operator's own prices."""

    async def of(self, models: Collection[Model]) -> Sequence[PriceOverride]: ...

    async def listed(
        self, provider: str | None, model: str | None, *, before: PriceId | None, most: int
    ) -> Sequence[PriceOverride]:
        """Those of a vendor or a model, or all, the one that was set last first."""
        ...

    async def add(self, price: PriceOverride) -> bool:
        """False when the model has a price from that moment on."""
        ...


class Subscriptions(Protocol):
    """Users' subscriptions, and every change they went through."""

    async def get(self, user_id: UserId) -> Subscription | None: ...

    async def hold(self, user_id: UserId, *, is_organisation: bool = False) -> Subscription:
        """The user's (or organisation's) subscription, which nobody else changes until the work
        ends. One that is not there yet is made for that kind of holder."""
        ...

    async def hold_kept(self, user_id: UserId) -> Subscription | None:
        """The same, and none is made; None of an organisation that is gone, too."""
        ...

    async def save(self, subscription: Subscription, *, by: UserId) -> None: ...

    async def keep_terms(self, subscriptions: Sequence[Subscription]) -> None:
        """What the clock and payments change: periods, what is owed. No revision, and no change
        in the books."""
        ...

    async def due(self, now: datetime, *, most: int) -> Sequence[Subscription]:
        """Those for which the clock has something to do, the longest due first; nobody else
        changes them until the work ends, and those that others hold are left out."""
        ...

    async def past_due(self, *, after: UserId | None, most: int) -> Sequence[Subscription]: ...

    async def delete(self, user_id: UserId) -> None:
        """Drop it; the changes that it went through stay."""
        ...

    async def dissolve(self, organisation_id: UserId, at: datetime) -> None:
        """The organisation is gone: what is paid for it from now on brings nothing back."""
        ...

    async def add_readers(self, organisation_id: UserId, readers: Sequence[UserId]) -> None:
        """Let them read the books of an organisation that is gone."""
        ...

    async def is_reader(self, organisation_id: UserId, user_id: UserId) -> bool: ...

    async def forget_reader(self, user_id: UserId) -> None: ...

    async def began_a_trial(self, user_id: UserId) -> bool:
        """Whether this person did, for whomever; nobody begins another for them meanwhile."""
        ...

    async def changes_of(self, user_id: UserId) -> Sequence[Subscription]:
        """What it was after each change, the first one first."""
        ...


class PlanPriceBook(Protocol):
    """The operator's own prices of tiers."""

    async def all(self) -> PlanPrices: ...

    async def add(self, price: PlanPrice) -> bool:
        """False when the tier has a price from that moment on."""
        ...


class Charges(Protocol):
    """What was charged: appended, never changed."""

    async def add(self, charges: Sequence[Charge]) -> None:
        """Each effect once: one that is there already fails the whole work."""
        ...

    async def of(self, holder: UserId, *, after: ChargeId | None, most: int) -> Sequence[Charge]:
        """The newest first."""
        ...


class PaymentBook(Protocol):
    """What was asked for and paid, who pays by which payment provider, and what providers told."""

    async def get(self, payment_id: PaymentId) -> Payment | None:
        """To see whose it is: the subscription is held first, so that nobody waits in a circle."""
        ...

    async def hold(self, payment_id: PaymentId) -> Payment | None: ...
    async def open_of(self, holder: UserId, kind: PaymentKind) -> Payment | None: ...

    async def by_reference(self, provider: str, reference: str) -> Payment | None:
        """Held until the work ends."""
        ...

    async def add(self, payment: Payment) -> None: ...
    async def save(self, payment: Payment) -> None: ...

    async def book(self, payment: Payment) -> bool:
        """Add it, unless there is one of its reference."""
        ...

    async def is_organisation(self, holder: UserId) -> bool | None:
        """None for a holder of whom nothing is in the books."""
        ...

    async def has_grown(self, order: Payment) -> bool:
        """Whether a later change was collected within the same, as the difference to this one."""
        ...

    async def use_grown(self, order: Payment) -> None:
        """What was collected for earlier changes within the same is a part of what this one is."""
        ...

    async def void_open(self, holder: UserId, at: datetime) -> None: ...
    async def forget_notes(self, holder: UserId) -> None:
        """What the billing team has written beside a holder's payments."""
        ...

    async def unpaid_orders(
        self, holder: UserId, *, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        """Those that can be paid by hand, the newest first."""
        ...

    async def of(
        self, holder: UserId | None, *, before: PaymentId | None, most: int
    ) -> Sequence[Payment]:
        """All of a holder's, or of everybody's, the newest first."""
        ...

    async def unused(self, *, after: PaymentId | None, most: int) -> Sequence[Payment]:
        """Paid, and nothing was left to change: by id."""
        ...

    async def settle_unused(self, holder: UserId, provider: str, amount_microusd: int) -> None:
        """The unused payment of that amount waits for nobody any more, unless another payment
        could be meant."""
        ...

    async def set_aside(self, holder: UserId, provider: str, *, but: PaymentId) -> PaymentId | None:
        """What the holder paid last before it counts as unused: another payment took its place.
        None when there was nothing."""
        ...

    async def payer(self, holder: UserId) -> Payer | None: ...

    async def hold_payer(self, holder: UserId) -> Payer | None:
        """The payer, whom nobody else changes until the work ends: after the subscription, where
        both are held."""
        ...

    async def payer_of(self, provider: str, customer: str) -> Payer | None:
        """Whose customer this is, or was for a subscription that nobody needed."""
        ...

    async def keep_payer(self, payer: Payer) -> None: ...

    async def payers_to_tell(
        self, provider: str, now: datetime, *, most: int
    ) -> Sequence[tuple[Payer, Wish]]:
        """Those whose payment provider collects for something else than what is held, with what it
        should collect for; but for those that were put off."""
        ...

    async def put_off(self, payer: Payer, now: datetime) -> None:
        """Telling it failed: it waits, each time longer, an hour at most."""
        ...

    async def note_spare(self, payer: Payer) -> bool:
        """Nobody needs this subscription of the payment provider's: it is to be ended there. False
        when that was known."""
        ...

    async def spares(self, provider: str, now: datetime, *, most: int) -> Sequence[Payer]:
        """Those that are to be ended, but for those that were put off."""
        ...

    async def put_off_spare(self, payer: Payer, now: datetime) -> None: ...
    async def spare_ended(self, payer: Payer, at: datetime) -> None: ...

    async def note(self, news: News) -> bool:
        """False when this was told before."""
        ...

    async def cursor(self, provider: str) -> str | None: ...
    async def move_cursor(self, provider: str, event_id: str, at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """How far a producer says it has come, and when it said so."""

    stream: Stream
    last_sequence: int
    said_at: datetime


class Completeness(Protocol):
    """What has come of each producer's streams, and what is missing."""

    async def announce(self, announcements: Sequence[Announcement]) -> None: ...
    async def progress(self) -> Sequence[Progress]: ...

    async def gaps(self) -> Sequence[Gap]:
        """The gaps known so far; nobody else works on them until the work ends."""
        ...

    async def known_gaps(self) -> Sequence[Gap]:
        """The same, to look at only."""
        ...

    async def keep_gaps(self, gaps: Sequence[Gap]) -> None:
        """These are all the gaps there are now."""
        ...


class Upkeep(Protocol):
    """The ledger's state as its keepers see it."""

    async def prepare_months(self, months: Sequence[datetime]) -> None:
        """Make room for months to come; does nothing for those that have it."""
        ...

    async def prepare_days(self, today: datetime, *, ahead: int) -> None:
        """The same for days, yesterday and today among them. Months that have begun stay."""
        ...

    async def stray_rows(self) -> int:
        """Entries whose id tells a time that no month's room was made for, but for usage from
        outside that lies in the past."""
        ...

    async def dead_events(self) -> int: ...


class UnitOfWork(Protocol):
    """One transaction."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def key_spending(self) -> KeySpendings: ...
    @property
    def chain(self) -> LedgerChain: ...
    @property
    def corrections(self) -> Corrections: ...
    @property
    def rollups(self) -> Rollups: ...
    @property
    def archive(self) -> LedgerArchive: ...
    @property
    def unpriced(self) -> UnpricedUsage: ...
    @property
    def prices(self) -> Prices: ...
    @property
    def subscriptions(self) -> Subscriptions: ...
    @property
    def plan_prices(self) -> PlanPriceBook: ...
    @property
    def charges(self) -> Charges: ...
    @property
    def details(self) -> DetailsBook: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def payments(self) -> PaymentBook: ...
    @property
    def completeness(self) -> Completeness: ...
    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def outside(self) -> OutsideUsage: ...
    @property
    def manifests(self) -> Manifests: ...
    @property
    def periods(self) -> Periods: ...
    @property
    def alerts(self) -> LimitAlerts: ...
    @property
    def effects(self) -> PriceEffects: ...
    @property
    def webhooks(self) -> Webhooks: ...
    @property
    def invoices(self) -> Invoices: ...
    @property
    def invoice_runs(self) -> InvoiceRuns: ...
    @property
    def credit_notes(self) -> CreditNotes: ...
    @property
    def usage_fees(self) -> UsageFees: ...
    @property
    def webhook_outbox(self) -> WebhookOutbox: ...
    @property
    def spending(self) -> SpendAlerts: ...
    @property
    def usage_rows(self) -> UsageRows: ...
    @property
    def usage_exports(self) -> UsageExports: ...
    @property
    def looks(self) -> StaffLooks: ...
    @property
    def aged(self) -> AgedUsages: ...
    @property
    def forgotten(self) -> ForgottenUsers: ...
    @property
    def activity(self) -> Activity: ...
    @property
    def analytics(self) -> Analytics: ...
    @property
    def dashboard_passes(self) -> DashboardPasses: ...

    def publish(
        self, event: Event, *, subject: UUID, tier: str, id_: EventId | None = None
    ) -> None: ...


NewUnitOfWork = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


class LimitCounters(Protocol):
    """The counters that chat and voice admit requests by."""

    async def standing(self, user_id: UserId, tier: Tier, now: datetime) -> Sequence[LimitStanding]:
        """Every window of the tier with what running requests hold of it; the month's money only
        where it is counted. Raises DependencyUnavailable while they are out of reach."""
        ...

    async def told_tier(self, user_id: UserId) -> str | None:
        """The tier that requests are admitted by whatever a token claims, where it has changed
        lately. Raises DependencyUnavailable."""
        ...


class Payments(Protocol):
    """Whoever collects money for us. Methods that reach out raise PaymentsUnavailable, and may be
    called again with the same: the payment provider does each thing once.

    `asks_first`: a change that costs waits for its payment. `has_checkout`: somebody can pay by
    themselves.
    """

    name: str
    asks_first: bool
    has_checkout: bool

    async def checkout(self, order: Payment, payer: Payer | None) -> Checkout:
        """Where to pay for a first subscription. Raises PaymentsUnavailable."""
        ...

    async def withdraw(self, order: Payment) -> None:
        """Nobody should pay at this order's page any more. Who has paid already, has."""
        ...

    async def collect_change(self, order: Payment, payer: Payer) -> None:
        """Take the difference from who pays already. Raises PaymentDeclined."""
        ...

    async def tell(self, payer: Payer, wish: Wish) -> None:
        """What to collect for from the next period on; of one that ends, the end alone."""
        ...

    async def collect_again(self, payer: Payer, attempt: str) -> None:
        """Try once more to collect what is open. Raises PaymentDeclined."""
        ...

    async def portal(self, payer: Payer) -> str:
        """A page where the payer changes how they pay."""
        ...

    async def read(self, body: bytes, signature: str | None) -> News | None:
        """What the payment provider delivered to our door; None when it means nothing to us.

        Raises BadWebhookSignature, or WebhooksNotOffered.
        """
        ...

    def news_since(self, cursor: str | None) -> AsyncIterator[tuple[str, datetime, News | None]]:
        """What happened after an event, oldest first: each event's id, time and meaning (None: none
        for us)."""
        ...


class Organisations(Protocol):
    """Organisations belong to auth, which knows at any moment who is what there."""

    async def may_buy(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """Whether the user decides about its subscription; None for who does not belong to it.

        Raises DependencyUnavailable: an access token's claim may be minutes old, so is not asked.
        """
        ...

    async def may_manage_keys(self, organisation_id: UUID, user_id: UserId) -> bool | None:
        """Whether the user decides about its keys; None for who does not belong to it.

        Raises DependencyUnavailable.
        """
        ...

    async def seats_taken(self, organisation_id: UUID, user_id: UserId) -> int | None:
        """How many people sit there, asked in the name of a member; None when auth does not say.

        Raises DependencyUnavailable.
        """
        ...
