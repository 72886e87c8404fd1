"""Mails by an SMTP server."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage

import structlog

from services.auth.domain.letter import Letter, NotDelivered, Undeliverable
from services.auth.domain.mail_server import MailServer
from services.auth.providers.mail_message import to_wire
from shared.clock import Clock

log = structlog.get_logger(__name__)

_SECONDS = 15.0
_ABOUT_US = (
    smtplib.SMTPAuthenticationError,
    smtplib.SMTPConnectError,
    smtplib.SMTPHeloError,
    smtplib.SMTPSenderRefused,
)


class SmtpMailer:
    """One connection per letter: they are few, and a kept one is closed by servers without notice.

    In a thread of its own, since the library waits.
    """

    def __init__(
        self,
        server: MailServer,
        *,
        sender: str,
        clock: Clock,
        trust: ssl.SSLContext | None = None,
        seconds: float = _SECONDS,
    ) -> None:
        self._server = server
        self._sender = sender
        self._clock = clock
        self._trust = trust or ssl.create_default_context()
        self._seconds = seconds

    async def send(self, letter: Letter) -> None:
        """Raises NotDelivered or Undeliverable."""
        message = to_wire(letter, sender=self._sender, at=self._clock.now())
        try:
            await asyncio.to_thread(self._hand_in, message)
        except smtplib.SMTPResponseException as error:
            raise _refusal(error.smtp_code, error) from error
        except smtplib.SMTPRecipientsRefused as error:
            raise _refused_recipient(error) from error
        # Also a server that hangs up, speaks no SMTP, or lacks STARTTLS or a way to sign in.
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(type(error).__name__, server_is_away=True) from error
        log.info("mail_handed_in", kind=letter.kind, mail_id=str(letter.id))

    def _hand_in(self, message: EmailMessage) -> None:
        connection = self._connected()
        try:
            if self._server.starttls:
                connection.starttls(context=self._trust)
            if self._server.user is not None:
                connection.login(self._server.user, self._server.password or "")
            connection.send_message(message)
        finally:
            # A letter that it has taken must not go out again for what it says to our goodbye.
            with suppress(OSError, smtplib.SMTPException):
                connection.quit()
            connection.close()

    def _connected(self) -> smtplib.SMTP:
        host, port = self._server.host, self._server.port
        if self._server.tls_from_the_start:
            return smtplib.SMTP_SSL(host, port, timeout=self._seconds, context=self._trust)
        return smtplib.SMTP(host, port, timeout=self._seconds)


def _refusal(code: int, error: smtplib.SMTPResponseException) -> NotDelivered | Undeliverable:
    # Who we are (or may send as) is wrong for every letter alike, and an operator can mend it.
    about_us = isinstance(error, _ABOUT_US)
    if about_us or not 500 <= code < 600:
        return NotDelivered(f"{type(error).__name__} {code}", server_is_away=about_us)
    return Undeliverable(f"{type(error).__name__} {code}")


def _refused_recipient(error: smtplib.SMTPRecipientsRefused) -> NotDelivered | Undeliverable:
    codes = [code for code, _ in error.recipients.values()]
    if codes and all(500 <= code < 600 for code in codes):
        return Undeliverable(f"recipient refused {codes[0]}")
    return NotDelivered(f"recipient not taken {codes[0] if codes else ''}".strip())
