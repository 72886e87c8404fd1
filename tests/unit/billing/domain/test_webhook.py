"""Signatures as receivers check them, and how long we go on trying."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.billing.domain.errors import WebhookSecretStillChanging
from services.billing.domain.webhook import (
    Delivery,
    Endpoint,
    EndpointOwner,
    LedgerRun,
    Outcome,
    message_body,
    new_delivery_id,
    new_endpoint_id,
    new_secret,
    signature,
    wait_after,
)
from shared.ids import UserId

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
REFUSED = Outcome(status=500)
ada = UserId(uuid4())


def an_endpoint(**facts: Any) -> Endpoint:
    owner = EndpointOwner("user", ada)
    given = {"url": "https://hooks.example.com", "types": (), "secret": b"new"} | facts
    return Endpoint(id=new_endpoint_id(), owner=owner, created_by=ada, created_at=NOW, **given)


def a_delivery(**facts: Any) -> Delivery:
    given = {"type": "limit.reached", "effect_key": "x", "body": "{}"} | facts
    return Delivery(
        id=new_delivery_id(),
        endpoint_id=new_endpoint_id(),
        created_at=NOW,
        next_attempt_at=NOW,
        **given,
    )


def test_the_reference_receiver_takes_any_secret_that_signs_now_and_no_other() -> None:
    old, new, foreign = new_secret(), new_secret(), new_secret()
    body = message_body("limit.reached", NOW, {"at": NOW, "who": ada}).encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature("msg_1", now, body, [new, old]),
    }
    for secret in (old, new):
        told = Webhook(secret).verify(body, headers)
        assert told["timestamp"] == "2026-11-28T12:00:00.000Z"
        assert told["data"] == {"at": "2026-11-28T12:00:00Z", "who": str(ada)}
    for wrong in (headers | {"webhook-id": "msg_2"}, headers | {"webhook-timestamp": str(now - 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(new).verify(body, wrong)
    with pytest.raises(WebhookVerificationError):
        Webhook(foreign).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b" ", headers)


def test_we_sign_as_the_reference_does() -> None:
    secret, at = new_secret(), datetime.now(UTC)
    ours = signature("msg_1", int(at.timestamp()), b'{"a":1}', [secret])
    assert ours == Webhook(secret).sign("msg_1", at, '{"a":1}')


def test_a_message_is_tried_for_more_than_a_day_and_then_dead() -> None:
    delivery, at, waits = a_delivery(), NOW, []
    while delivery.state == "waiting":
        delivery = delivery.failed(REFUSED, at, jitter=0.0)
        waits.append(delivery.next_attempt_at - at)
        at = max(at, delivery.next_attempt_at)
    assert waits[:3] == [timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5)]
    assert (delivery.state, delivery.attempts, delivery.settled_at) == ("dead", 9, at)
    assert at - NOW > timedelta(hours=27)


def test_usage_is_never_dead() -> None:
    delivery = a_delivery(body=None, run=LedgerRun(20_000, 1, 500))
    for _ in range(30):
        delivery = delivery.failed(REFUSED, NOW, jitter=1.0)
    assert (delivery.state, delivery.next_attempt_at - NOW) == ("waiting", timedelta(hours=10))


def test_a_receivers_wish_for_patience_is_granted_within_reason() -> None:
    assert wait_after(1, None, jitter=1.0) == timedelta(seconds=6)
    assert wait_after(1, timedelta(minutes=7), jitter=0.5) == timedelta(minutes=7)
    assert wait_after(5, timedelta(seconds=1), jitter=0.0) == timedelta(hours=2)
    assert wait_after(1, timedelta(days=900), jitter=0.0) == timedelta(hours=10)
    assert wait_after(9, timedelta(hours=1), jitter=0.0) is None


def test_an_endpoint_that_fails_for_five_days_is_disabled_and_one_success_forgives() -> None:
    endpoint = an_endpoint().failed(NOW, None)
    assert endpoint.paused_until == NOW + timedelta(seconds=1)
    late = endpoint.failed(NOW + timedelta(days=4, hours=23), None)
    assert (late.disabled_at, late.failures) == (None, 2)
    assert late.answered().failing_since is None
    over = late.failed(NOW + timedelta(days=5), None)
    assert (over.disabled_because, over.disabled_at) == ("failing", NOW + timedelta(days=5))
    assert over.enabled() == an_endpoint_like(over)


def an_endpoint_like(other: Endpoint) -> Endpoint:
    return Endpoint(
        id=other.id,
        owner=other.owner,
        url=other.url,
        types=other.types,
        secret=other.secret,
        created_by=other.created_by,
        created_at=other.created_at,
    )


def test_both_secrets_sign_for_a_day_after_a_rotation() -> None:
    rotated = an_endpoint().with_new_secret(b"newer", NOW)
    assert rotated.secrets_at(NOW + timedelta(hours=23)) == [b"newer", b"new"]
    assert rotated.secrets_at(NOW + timedelta(hours=24)) == [b"newer"]


def test_a_third_secret_cuts_no_receiver_off_unsaid() -> None:
    twice = an_endpoint().with_new_secret(b"second", NOW)
    soon = NOW + timedelta(hours=1)
    with pytest.raises(WebhookSecretStillChanging) as refused:
        twice.with_new_secret(b"third", soon)
    until = (NOW + timedelta(hours=24)).isoformat()
    assert refused.value.facts["old_secret_until"] == until
    # The one that got lost on the way, or that others saw, was never put to use.
    assert twice.with_new_secret(b"third", soon, "newer").secrets_at(soon) == [b"third", b"new"]
    assert twice.with_new_secret(b"third", soon, "older").secrets_at(soon) == [b"third", b"second"]
    later = NOW + timedelta(hours=24)
    assert twice.with_new_secret(b"third", later).secrets_at(later) == [b"third", b"second"]
    once = an_endpoint().with_new_secret(b"second", NOW, "newer")
    assert once.secrets_at(NOW) == [b"second", b"new"]


def test_no_secret_and_no_url_shows() -> None:
    shown = repr(an_endpoint(url="https://hooks.example.com/token-4711", secret=b"sealed-4711"))
    assert "4711" not in shown


@pytest.mark.parametrize(
    ("status", "is_taken"),
    [
        (199, False),
        (200, True),
        (204, True),
        (299, True),
        (300, False),
        (410, False),
        (None, False),
    ],
)
def test_whoever_answers_with_any_success_has_taken_it(status: int | None, is_taken: bool) -> None:
    assert Outcome(status=status).is_taken is is_taken


def test_only_the_operator_is_told_of_all_usage() -> None:
    assert "usage.recorded" in EndpointOwner.operator().types
    assert "usage.recorded" not in EndpointOwner("user", ada).types
    assert set(EndpointOwner("organisation", ada).types) < set(EndpointOwner.operator().types)
