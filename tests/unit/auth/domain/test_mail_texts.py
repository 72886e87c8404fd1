"""What mails say, and what nobody can make them say."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from services.auth.domain.letter import Letter
from services.auth.domain.mail import MailKind
from services.auth.domain.mail_texts import letter
from services.auth.domain.user import EmailAddress

ID = UUID(int=7)
ADA = EmailAddress.parse("ada@example.com")


def written(kind: MailKind, **facts: str) -> Letter:
    return letter(ID, kind, ADA, facts, "https://companion.example.com/")


@pytest.mark.parametrize("kind", MailKind)
def test_each_kind_has_a_text(kind: MailKind) -> None:
    mail = written(kind, token="t0ken", username="ada")
    assert 10 < len(mail.subject) < 70
    assert mail.subject.isprintable()
    assert "We never ask for your password" in mail.text
    assert mail.html.count("<p>") == len(mail.text.strip().split("\n\n"))


def test_a_link_carries_its_token_where_servers_do_not_see_it() -> None:
    mail = written(MailKind.VERIFY_EMAIL, token="t0ken", username="ada")
    assert "\nhttps://companion.example.com/oauth/verify-email?token=t0ken\n" in mail.text
    assert '<a href="https://companion.example.com/oauth/verify-email?token=t0ken">' in mail.html


@pytest.mark.parametrize("kind", MailKind)
def test_facts_can_add_neither_lines_nor_markup_nor_a_subject(kind: MailKind) -> None:
    evil = "x\r\nBcc: eve@example.com\n\nhttps://evil.example.com <script>alert(1)</script>"
    names = ("username", "device", "address", "organisation", "inviter", "role")
    plain, mail = written(kind, token="t"), written(kind, token="t", **dict.fromkeys(names, evil))
    assert mail.subject == plain.subject
    assert not re.search(r"^(Bcc|https://evil)", mail.text, re.MULTILINE)
    assert "<script>" not in mail.html
    assert 'href="https://evil' not in mail.html


def test_nothing_in_a_mail_is_fetched_from_anywhere() -> None:
    for kind in MailKind:
        mail = written(kind, token="t", username="ada")
        assert not re.search(r"<(img|link|script|style|iframe)", mail.html)


def test_neither_text_nor_token_is_shown_by_accident() -> None:
    assert "t0ken" not in repr(written(MailKind.RESET_PASSWORD, token="t0ken"))
