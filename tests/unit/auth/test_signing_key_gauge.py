"""How old the key is that signs: the number by which its rotation is due."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY

from services.auth.api.gauges import watch_signing_key
from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.signing_keys import SigningKeys, new_signing_keys, parse_signing_keys
from shared.clock import SystemClock

MADE_AT = datetime(2026, 11, 1, tzinfo=UTC)


class Book:
    """Keys that are there, or not."""

    def __init__(self, keys: SigningKeys | None) -> None:
        self._keys = keys

    def current(self) -> SigningKeys:
        if self._keys is None:
            raise SigningKeysUnavailable
        return self._keys

    async def check(self) -> None:
        self.current()


class Clock(SystemClock):
    """Three days after they were made."""

    def now(self) -> datetime:
        return MADE_AT + timedelta(days=3)


def age() -> float | None:
    return REGISTRY.get_sample_value("companion_auth_signing_key_age_seconds")


def test_its_age_is_shown_whenever_somebody_looks() -> None:
    watch_signing_key(Book(parse_signing_keys(json.dumps(new_signing_keys(MADE_AT)))), Clock())
    assert age() == 3 * 86_400


def test_a_file_that_cannot_be_read_has_no_age() -> None:
    watch_signing_key(Book(None), Clock())
    assert age() == 0


def test_a_key_made_by_hand_need_not_say_since_when() -> None:
    document = new_signing_keys(MADE_AT)
    for key in document["keys"]:
        key.pop("activated_at", None)
    watch_signing_key(Book(parse_signing_keys(json.dumps(document))), Clock())
    assert age() == 0
