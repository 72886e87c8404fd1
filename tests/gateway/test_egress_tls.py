"""Vendors by https: the certificate must be of a trusted authority and for the right host."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.envoy.egress import VENDOR_CALLS
from shared.clients.egress import may_have_been_sent
from tests.gateway.conftest import room
from tests.gateway.egress_tools import PROOFS, an_egress
from tests.gateway.servers import serving


class Authority:
    """A certificate authority of our own, made for one test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.certificate = self._sign(self.name, self.key, [], is_authority=True)

    def server_context(self, directory: Path, *names: x509.GeneralName) -> ssl.SSLContext:
        """What a server needs to prove that it goes by these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vendor")])
        certificate = self._sign(subject, key, list(names), is_authority=False)
        path = directory / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def bundle(self, directory: Path) -> Path:
        path = directory / "authorities.pem"
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: list[x509.GeneralName],
        *,
        is_authority: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


LOCALHOST = x509.DNSName("localhost")


@pytest.mark.parametrize(
    ("host", "names", "trusted", "status"),
    [
        ("localhost", [LOCALHOST], True, 200),
        ("127.0.0.1", [x509.IPAddress(ip_address("127.0.0.1"))], True, 200),
        ("localhost", [x509.DNSName("api.vendor.example")], True, 503),
        ("127.0.0.1", [LOCALHOST], True, 503),
        ("localhost", [LOCALHOST], False, 503),
    ],
    ids=["right name", "right address", "wrong name", "wrong address", "unknown authority"],
)
async def test_a_vendor_proves_who_it_is(
    short_directory: Path,
    tmp_path: Path,
    host: str,
    names: list[x509.GeneralName],
    trusted: bool,
    status: int,
) -> None:
    authority = Authority()
    context = authority.server_context(tmp_path, *names)
    bundle = (authority if trusted else Authority()).bundle(tmp_path)
    directory = room(short_directory, tmp_path.name)
    async with serving("elevenlabs", tls=context) as vendor:
        urls = dict.fromkeys(VENDOR_CALLS, f"https://{host}:{vendor.endpoint.port}/base")
        async with an_egress(directory, urls=urls, ca_bundle=bundle) as egress:
            answer = await egress.send("/elevenlabs/v1/voices")
            assert answer.status == status
            if status != 200:
                assert answer.json["code"] == "vendor_unreachable"
                detail = answer.headers["x-egress-detail"]
                assert not may_have_been_sent(answer.status, detail), detail
                assert vendor.received == []
                return
            assert vendor.last.path == "/base/v1/voices"
            assert vendor.last.header("host") == f"{host}:{vendor.endpoint.port}"
            assert vendor.last.header("xi-api-key") == "key-of-ada"
            url = (
                f"http://127.0.0.1:{egress.proxy.port}/elevenlabs/v1/text-to-speech/a/stream-input"
            )
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(url, headers=PROOFS) as socket,
            ):
                assert (await socket.receive_json())["server"] == "elevenlabs"
