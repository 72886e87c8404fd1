"""Where mails are handed in."""

from __future__ import annotations

import pytest

from services.auth.domain.mail_server import MailServer


@pytest.mark.parametrize(
    ("url", "port", "implicit", "starttls"),
    [
        ("smtps://mail.example.com", 465, True, False),
        ("smtp://mail.example.com?starttls=1", 587, False, True),
        ("smtp://mail.example.com:2525?starttls=1", 2525, False, True),
        ("smtp://127.0.0.1", 25, False, False),
        ("smtp://[::1]:1025", 1025, False, False),
    ],
)
def test_an_url_says_how_to_connect(url: str, port: int, implicit: bool, starttls: bool) -> None:
    server = MailServer.parse(url)
    assert (server.port, server.tls_from_the_start, server.starttls) == (port, implicit, starttls)
    assert (server.user, server.password) == (None, None)


def test_a_user_and_a_password_may_hold_any_letter() -> None:
    server = MailServer.parse("smtps://ada%40example.com:p%2Fw%3A@mail.example.com")
    assert (server.user, server.password) == ("ada@example.com", "p/w:")
    assert "p/w" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "smtp://mail.example.com",
        "smtp://mail.example.com?starttls=0",
        "http://mail.example.com",
        "smtp://",
        "smtps://h:99999",
        "smtps://mail.example.com?starttls=1&tls=no",
        "mail.example.com",
        "smtp://[::1",
    ],
)
def test_what_is_unsafe_or_unclear_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError) as refusal:
        MailServer.parse(url.replace("//", "//ada:s3cret@"))
    assert "s3cret" not in str(refusal.value)
