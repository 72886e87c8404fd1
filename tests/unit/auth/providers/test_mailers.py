"""Letters in a folder, and letters by SMTP: to a real server on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.auth.domain.letter import Letter, NotDelivered, Undeliverable
from services.auth.domain.mail_server import MailServer
from services.auth.domain.user import EmailAddress
from services.auth.providers.mail_folder import MailFolder
from services.auth.providers.mail_message import to_wire
from services.auth.providers.smtp import SmtpMailer
from tests.support.auth import NOON, StoppedClock
from tests.support.auth_mails import mails_to, text_of

SENDER = "companion@example.org"


def a_letter(recipient: str = "ada@example.com", number: int = 7) -> Letter:
    return Letter(
        id=UUID(int=number),
        kind="verify_email",
        recipient=EmailAddress(recipient),
        subject="Confirm your e-mail address",
        text="Grüße\n\nhttps://example.org/#token=abc\n",
        html="<p>Grüße</p>",
    )


def test_a_message_has_the_headers_that_mail_needs() -> None:
    message = to_wire(a_letter(), sender=SENDER, at=NOON)
    parsed = message_from_bytes(bytes(message), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed["From"] == "ToolTip Companion <companion@example.org>"
    assert parsed["To"] == "ada@example.com"
    assert parsed["Date"] == "Tue, 24 Nov 2026 12:00:00 +0000"
    assert parsed["Message-ID"] == f"<{UUID(int=7)}@example.org>"
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert text_of(parsed).startswith("Grüße")
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    "evil", ["ada@example.com\r\nBcc: eve@example.com", "ada@example.com, eve@example.com", "\0"]
)
def test_an_address_can_add_no_header_and_no_recipient(evil: str) -> None:
    with pytest.raises(Undeliverable):
        to_wire(a_letter(evil), sender=SENDER, at=NOON)


def test_a_subject_can_add_no_header() -> None:
    letter = a_letter()
    object.__setattr__(letter, "subject", "x\r\nBcc: eve@example.com")
    with pytest.raises(ValueError):
        to_wire(letter, sender=SENDER, at=NOON)


def test_domains_are_written_so_that_every_server_knows_them() -> None:
    message = to_wire(a_letter("ada@bücher.example"), sender=SENDER, at=NOON)
    assert message["To"] == "ada@xn--bcher-kva.example"
    with pytest.raises(Undeliverable):
        to_wire(a_letter("äda@example.com"), sender=SENDER, at=NOON)


async def test_a_folder_gets_one_private_file_per_letter(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mail"
    mailer = MailFolder(folder, sender=SENDER, clock=StoppedClock())
    await asyncio.gather(*(mailer.send(a_letter(number=n)) for n in (1, 2)))
    await mailer.send(a_letter(number=2))
    assert sorted(p.name for p in folder.iterdir()) == [f"{UUID(int=n)}.eml" for n in (1, 2)]
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(mails_to(folder, "ada@example.com")) == 2


async def test_a_folder_that_can_not_be_written_keeps_the_mail_waiting(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("a file")
    mailer = MailFolder(tmp_path / "mail", sender=SENDER, clock=StoppedClock())
    with pytest.raises(NotDelivered) as failure:
        await mailer.send(a_letter())
    assert failure.value.server_is_away


@dataclass
class Mailbox:
    """What a server has taken; `answers` are given instead of taking."""

    answers: dict[str, str] = field(default_factory=dict)
    taken: list[Envelope] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        if "RCPT" in self.answers:
            return self.answers["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Envelope
    ) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.taken.append(envelope)
        self.encrypted.append(session.ssl is not None)
        return "250 OK"

    async def handle_QUIT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Envelope
    ) -> str:
        return self.answers.get("QUIT", "221 Bye")


@asynccontextmanager
async def smtp_server(
    mailbox: Mailbox, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    """A server on this machine; answers its port."""
    loop = asyncio.get_running_loop()
    make: Callable[[], SMTP] = lambda: SMTP(mailbox, hostname="localhost", **options)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def mailer(url: str, trust: ssl.SSLContext | None = None, seconds: float = 5) -> SmtpMailer:
    server = MailServer.parse(url)
    return SmtpMailer(server, sender=SENDER, clock=StoppedClock(), trust=trust, seconds=seconds)


@dataclass(frozen=True)
class Certified:
    """A certificate for this machine, and those who trust it."""

    server: ssl.SSLContext
    trust: ssl.SSLContext


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certified(server, ssl.create_default_context(cafile=str(folder / "cert.pem")))


async def test_a_letter_is_handed_in() -> None:
    mailbox = Mailbox()
    async with smtp_server(mailbox) as port:
        await mailer(f"smtp://127.0.0.1:{port}").send(a_letter())
    [envelope] = mailbox.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["ada@example.com"])
    content = envelope.content
    assert isinstance(content, bytes)
    assert b"#token=abc" in content


@pytest.mark.parametrize("answer", ["250 OK", "421 too many", "500 what?"])
async def test_a_letter_that_was_taken_is_sent_whatever_is_said_to_the_goodbye(answer: str) -> None:
    mailbox = Mailbox({"QUIT": answer})
    async with smtp_server(mailbox) as port:
        await mailer(f"smtp://127.0.0.1:{port}").send(a_letter())
    assert len(mailbox.taken) == 1


async def test_encrypted_by_starttls_and_with_a_password(
    certified: Certified,
) -> None:
    def authenticator(
        server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ada", b"p/w"), handled=False)

    mailbox = Mailbox()
    async with smtp_server(
        mailbox,
        tls_context=certified.server,
        require_starttls=True,
        authenticator=authenticator,
        auth_required=True,
    ) as port:
        url = f"smtp://ada:p%2Fw@127.0.0.1:{port}?starttls=1"
        await mailer(url, certified.trust).send(a_letter())
        with pytest.raises(NotDelivered) as failure:
            await mailer(url.replace("p%2Fw", "wrong"), certified.trust).send(a_letter())
        assert failure.value.server_is_away  # An operator's to mend: nothing is given up.
    assert mailbox.encrypted == [True]


async def test_encrypted_from_the_start(certified: Certified) -> None:
    mailbox = Mailbox()
    async with smtp_server(mailbox, tls=certified.server) as port:
        await mailer(f"smtps://127.0.0.1:{port}", certified.trust).send(a_letter())
        with pytest.raises(NotDelivered):
            await mailer(f"smtps://127.0.0.1:{port}").send(a_letter())
    assert len(mailbox.taken) == 1


async def test_nothing_is_said_to_a_server_that_can_not_prove_its_name(
    certified: Certified,
) -> None:
    mailbox = Mailbox()
    async with smtp_server(mailbox, tls_context=certified.server) as port:
        with pytest.raises(NotDelivered):
            await mailer(f"smtp://127.0.0.1:{port}?starttls=1").send(a_letter())
    async with smtp_server(mailbox) as port:  # It knows no STARTTLS.
        with pytest.raises(NotDelivered):
            await mailer(f"smtp://127.0.0.1:{port}?starttls=1").send(a_letter())
    assert mailbox.taken == []


@pytest.mark.parametrize("stage", ["RCPT", "DATA"])
async def test_for_now_and_for_good_are_told_apart(stage: str) -> None:
    async with smtp_server(Mailbox({stage: "451 try later"})) as port:
        with pytest.raises(NotDelivered) as failure:
            await mailer(f"smtp://127.0.0.1:{port}").send(a_letter())
        assert not failure.value.server_is_away
    async with smtp_server(Mailbox({stage: "550 no such mailbox"})) as port:
        with pytest.raises(Undeliverable):
            await mailer(f"smtp://127.0.0.1:{port}").send(a_letter())


async def test_a_server_that_is_gone_or_silent_is_away(unused_tcp_port: int) -> None:
    with pytest.raises(NotDelivered) as failure:
        await mailer(f"smtp://127.0.0.1:{unused_tcp_port}").send(a_letter())
    assert failure.value.server_is_away

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotDelivered) as failure:
            await mailer(f"smtp://127.0.0.1:{port}", seconds=0.2).send(a_letter())
        assert failure.value.server_is_away
