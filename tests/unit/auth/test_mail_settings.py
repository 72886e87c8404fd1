"""Which way mails go."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.auth.settings import Settings

NEEDED = {
    "database_url": "postgresql://127.0.0.1:1",
    "cache_url": "redis://127.0.0.1:1/0",
    "broker_url": "redis://127.0.0.1:1/1",
    "jwks_url": "http://127.0.0.1:1/.well-known/jwks.json",
    "identity_key_file": "/nowhere/auth.pem",
    "identity_trust_file": "/nowhere/trusted.json",
}


def settings(**values: Any) -> Settings:
    return Settings(**{**NEEDED, **values})


def test_by_default_mails_wait() -> None:
    known = settings()
    assert (known.mail_server, known.mail_folder) == (None, None)


def test_a_mail_server_needs_a_sender() -> None:
    url = "smtps://ada:s3cret@mail.example.com"
    known = settings(smtp_url=url, mail_from="Companion@Example.com")
    assert known.mail_server is not None
    assert (known.mail_server.host, known.mail_from) == (
        "mail.example.com",
        "companion@example.com",
    )
    with pytest.raises(ValidationError, match="AUTH_MAIL_FROM"):
        settings(smtp_url=url)


@pytest.mark.parametrize(
    "values",
    [
        {"smtp_url": "smtp://ada:s3cret@mail.example.com", "mail_from": "a@example.com"},
        {"smtp_url": "smtps://mail.example.com", "mail_from": "a@example.com", "mail_folder": "/m"},
        {"mail_from": "a@example.com, b@example.com"},
        {"mail_from": "a@example.com\nBcc: b@example.com"},
        {"mails_per_hour": 0},
    ],
)
def test_what_can_not_be_meant_stops_the_start_without_repeating_it(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(**values)
    assert "s3cret" not in str(refusal.value)
