"""One attempt: whatever a receiver does, there is an outcome in time, and nothing inside is met."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.billing.domain.webhook import Outcome
from services.billing.providers.webhook_delivery import (
    HttpWebhookSender,
    Resolve,
    read_retry_after,
)
from tests.support.webhook_receiver import Answer, Write, drip, flood, hang, receiving, status

HEADERS = {"webhook-id": "msg_1", "content-type": "application/json"}


def a_sender(resolve: Resolve | None = None, *, allow_local: bool = True) -> HttpWebhookSender:
    return HttpWebhookSender(
        allow_local=allow_local, resolve=resolve, total_seconds=0.4, connect_seconds=0.2
    )


def resolving(addresses: Sequence[str]) -> Resolve:
    """A name server with one answer."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


def certificate_for(host: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's proof of its name, and trust in it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, path = serialization.Encoding.PEM, folder / "receiver.pem"
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


async def test_a_message_arrives_as_it_was_signed() -> None:
    async with receiving() as receiver:
        outcome = await a_sender().send(receiver.url, b'{"a":1}', HEADERS)
    assert outcome == Outcome(status=204)
    [received] = receiver.received
    assert received.body == b'{"a":1}'
    assert received.headers["webhook-id"] == "msg_1"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(500), Outcome(status=500)),
        (status(410), Outcome(status=410)),
        (status(429, "Retry-After: 120"), Outcome(429, retry_after=timedelta(seconds=120))),
        (status(503, "Retry-After: 5"), Outcome(503, retry_after=timedelta(seconds=5))),
        (status(500, "Retry-After: 5"), Outcome(500)),
        (status(429, "Retry-After: soon"), Outcome(429)),
        (status(200, body=b"thanks"), Outcome(200)),
        (hang, Outcome(problem="timeout")),
        (drip, Outcome(problem="timeout")),
    ],
)
async def test_each_answer_has_its_outcome(answer: Answer, outcome: Outcome) -> None:
    began = time.monotonic()
    async with receiving(answer) as receiver:
        assert await a_sender().send(receiver.url, b"{}", HEADERS) == outcome
    assert time.monotonic() - began < 2


async def test_of_a_body_without_end_a_little_is_read() -> None:
    async with receiving(flood) as receiver:
        assert await a_sender().send(receiver.url, b"{}", HEADERS) == Outcome(status=200)
    assert receiver.written < 20_000_000  # what the kernel's buffers hold, and no more


async def test_no_redirect_is_followed() -> None:
    async with receiving() as inside:
        async with receiving(status(307, f"Location: {inside.url}")) as receiver:
            assert await a_sender().send(receiver.url, b"{}", HEADERS) == Outcome(status=307)
        assert inside.received == []


async def test_who_does_not_listen_or_speak_http_is_no_error_of_ours() -> None:
    async def nonsense(write: Write) -> None:
        await write(b"SSH-2.0-x\r\n\r\n")

    async with receiving(nonsense) as receiver:
        url = receiver.url
        outcome = await a_sender().send(url, b"{}", HEADERS)
    assert outcome == Outcome(problem="connection_lost")
    assert await a_sender().send(url, b"{}", HEADERS) == Outcome(problem="unreachable")


async def test_a_receiver_proves_its_name_though_we_connect_to_an_address(
    tmp_path: Path,
) -> None:
    theirs, ours = certificate_for("hooks.example.com", tmp_path)
    sender = HttpWebhookSender(
        allow_local=True, resolve=resolving(["127.0.0.1"]), total_seconds=2, tls=ours
    )
    async with receiving(tls=theirs) as receiver:
        for host, outcome in (
            ("hooks.example.com", Outcome(status=204)),
            ("other.example.com", Outcome(problem="tls_failed")),
        ):
            url = f"https://{host}:{receiver.port}/"
            assert await sender.send(url, b"{}", HEADERS) == outcome
        untrusting = HttpWebhookSender(allow_local=True, resolve=resolving(["127.0.0.1"]))
        url = f"https://hooks.example.com:{receiver.port}/"
        assert await untrusting.send(url, b"{}", HEADERS) == Outcome(problem="tls_failed")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:169.254.169.254"], ["64:ff9b::a00:1"]],
)
async def test_a_name_inside_is_never_connected_to(addresses: list[str]) -> None:
    async with receiving() as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        outcome = await a_sender(resolving(addresses), allow_local=False).send(url, b"", HEADERS)
    assert outcome == Outcome(problem="address_not_allowed")
    assert receiver.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost"])
async def test_the_own_machine_is_refused_however_it_is_written(host: str) -> None:
    async with receiving() as receiver:
        url = f"https://{host}:{receiver.port}/"
        outcome = await a_sender(allow_local=False).send(url, b"", HEADERS)
    assert outcome.problem in ("address_not_allowed", "unresolvable")
    assert receiver.now == 0
    assert receiver.received == []


async def test_a_name_server_that_changes_its_answer_gains_nothing() -> None:
    """The address that was checked is the one that is connected to: the name is asked once."""
    asked = 0

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"] if asked == 1 else ["169.254.169.254"]

    async with receiving() as receiver:
        url = f"http://rebinding.example:{receiver.port}/"
        sender = a_sender(rebinding)
        assert await sender.send(url, b"{}", HEADERS) == Outcome(status=204)
        assert asked == 1
        assert receiver.received[0].headers["host"] == f"rebinding.example:{receiver.port}"
        # And checked anew at the next attempt.
        refused = await sender.send(url, b"{}", HEADERS)
    assert refused == Outcome(problem="address_not_allowed")
    assert len(receiver.received) == 1


async def test_a_name_without_an_address_and_a_slow_name_server() -> None:
    async def slow(_host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    url = "https://nowhere.example/"
    assert await a_sender(resolving([])).send(url, b"", HEADERS) == Outcome(problem="unresolvable")
    assert await a_sender(slow).send(url, b"", HEADERS) == Outcome(problem="timeout")


async def test_another_address_of_the_name_is_tried() -> None:
    async with receiving() as receiver:
        url = f"http://two.example:{receiver.port}/"
        sender = a_sender(resolving(["127.0.0.2", "127.0.0.1"]))
        assert await sender.send(url, b"{}", HEADERS) == Outcome(status=204)


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert read_retry_after(" 30 ", now) == timedelta(seconds=30)
    date = "Sat, 28 Nov 2026 12:05:00 GMT"
    assert read_retry_after(date, now) == timedelta(minutes=5)
    for nothing in ("Sat, 28 Nov 2026 11:00:00 GMT", "-5", "", "x" * 200, "٣"):
        assert read_retry_after(nothing, now) is None
    assert read_retry_after("9" * 40, now) == timedelta(seconds=999_999_999)
