"""A letter in the form of the net (RFC 5322)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import email_validator

from services.auth.domain.letter import Letter, Undeliverable

_NAME = "ToolTip Companion"


def to_wire(letter: Letter, *, sender: str, at: datetime) -> EmailMessage:
    """The message; a line break in a header is refused by the library. Raises Undeliverable."""
    message = EmailMessage(policy=SMTP)
    message["From"] = Address(_NAME, addr_spec=sender)
    message["To"] = Address(addr_spec=ascii_address(letter.recipient.text))
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(at.astimezone(UTC))
    message["Message-ID"] = f"<{letter.id}@{sender.rpartition('@')[2]}>"
    # So that nobody's absence notice answers (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    return message


def ascii_address(address: str) -> str:
    """The address as every server understands it. Raises Undeliverable when there is no such form:
    we don't speak SMTPUTF8, which few servers do."""
    try:
        found = email_validator.validate_email(
            address, strict=True, check_deliverability=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError as error:
        raise Undeliverable("the address is none") from error
    if found.ascii_email is None:
        raise Undeliverable("the address has letters beyond ASCII before its @")
    return found.ascii_email
