"""What our worker leaves out of Celery's consumer."""

from celery.worker.consumer import Consumer

from shared.messaging.unreadable import CarefulConsumer


def test_nothing_is_prepared_for_messages_that_are_sent_for_later() -> None:
    ours = CarefulConsumer.Blueprint.default_steps
    left_out = [step for step in Consumer.Blueprint.default_steps if step not in ours]
    assert left_out == ["celery.worker.consumer.delayed_delivery:DelayedDelivery"]
