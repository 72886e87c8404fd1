"""Webhooks to customers and the operator."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from shared.errors import Conflict, Invalid, NotFound, Unavailable


class WebhooksNotOffered(NotFound):
    """No payment provider that would send any."""

    code = "webhooks_not_offered"

    def __init__(self) -> None:
        super().__init__("No payment provider is set up here.")


class WebhookNotFound(NotFound):
    """Also raised for somebody else's webhook, so that ids can't be probed."""

    code = "webhook_not_found"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__("No such webhook.", webhook_id=str(webhook_id))


class WebhookDeliveryNotFound(NotFound):
    """Also raised for somebody else's delivery, so that ids can't be probed."""

    code = "webhook_delivery_not_found"

    def __init__(self, delivery_id: UUID) -> None:
        super().__init__("No such delivery.", delivery_id=str(delivery_id))


class WebhookUrlNotAllowed(Invalid):
    """A URL that we don't send anything to."""

    code = "webhook_url_not_allowed"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)


class UnknownWebhookType(Invalid):
    """An event type that this owner is not told of."""

    code = "unknown_webhook_type"

    def __init__(self, known: Iterable[str]) -> None:
        names = list(known)
        super().__init__(f"`types` lists some of {', '.join(names)}, each once.", types=names)


class TooManyWebhooks(Conflict):
    """There are as many as anybody may have."""

    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        super().__init__(f"There can be {most} webhooks at most.", limit=most)


class WebhookDisabled(Conflict):
    """Nothing is sent to a webhook that is disabled."""

    code = "webhook_disabled"

    def __init__(self, webhook_id: UUID) -> None:
        super().__init__("Enable this webhook first.", webhook_id=str(webhook_id))


class WebhookTestWaits(Conflict):
    """One test at a time: a receiver is not to be flooded through us."""

    code = "webhook_test_waits"

    def __init__(self) -> None:
        super().__init__("The last test is not delivered yet.")


class WebhookSecretStillChanging(Conflict):
    """Two secrets sign by now, and a third would cut off a receiver that holds one of them."""

    code = "webhook_secret_still_changing"

    def __init__(self, webhook_id: UUID, until: datetime | None) -> None:
        super().__init__(
            "Two secrets sign already. Wait until the older one ends, or say which to `drop`.",
            webhook_id=str(webhook_id),
            old_secret_until=until.isoformat() if until else None,
        )


class WebhookSecretsUnavailable(Unavailable):
    """Without its key no secret of a webhook can be kept or used."""

    code = "webhook_secrets_unavailable"

    def __init__(self) -> None:
        super().__init__("Webhooks can't be used at the moment.")
