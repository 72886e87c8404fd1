"""Key services on loopback that answer as the real ones do: transit of Vault, and AWS KMS."""

from __future__ import annotations

import json
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Answer = tuple[int, Any]


@dataclass
class Asked:
    """What a key service was asked, and how it is to misbehave."""

    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    # Answered to everything, while it is set.
    instead: Answer | None = None
    # Nothing is answered while this is not set.
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def count(self, part: str) -> int:
        """How often it was asked for paths or operations with this in their name."""
        return sum(part in path for path in self.paths)


@dataclass
class TransitStandIn:
    """The transit engine: one key with versions."""

    token: str = "hvs.stand-in"
    name: str = "companion"
    keys: dict[int, bytes] = field(default_factory=lambda: {1: os.urandom(32)})
    oldest: int = 1
    type: str = "aes256-gcm96"
    asked: Asked = field(default_factory=Asked)

    def rotate(self) -> None:
        self.keys[max(self.keys) + 1] = os.urandom(32)

    def answer(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Answer:
        """As https://developer.hashicorp.com/vault/api-docs/secret/transit describes."""
        if headers.get("X-Vault-Token") != self.token:
            return 403, {"errors": ["permission denied"]}
        match path.removeprefix("/v1/transit/").split("/"):
            case ["keys", name] if name == self.name:
                return 200, {"data": self._about()}
            case ["encrypt", name] if name == self.name:
                return self._encrypt(body)
            case ["decrypt", name] if name == self.name:
                return self._decrypt(body, b64decode(body.get("associated_data", "")))
            case ["rewrap", name] if name == self.name:
                # The real one ignores associated data here: vault#29532.
                return self._decrypt(body, b"")
            case ["encrypt" | "decrypt", _]:
                return 400, {"errors": ["encryption key not found"]}
            case _:
                return 404, {"errors": []}

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "derived": False,
            "exportable": False,
            "latest_version": max(self.keys),
            "min_decryption_version": self.oldest,
            "min_encryption_version": 0,
            "keys": {str(version): 1_764_000_000 for version in self.keys},
        }

    def _encrypt(self, body: dict[str, Any]) -> Answer:
        version, nonce = body.get("key_version") or max(self.keys), os.urandom(12)
        sealed = AESGCM(self.keys[version]).encrypt(
            nonce, b64decode(body["plaintext"]), b64decode(body.get("associated_data", ""))
        )
        text = f"vault:v{version}:{b64encode(nonce + sealed).decode()}"
        return 200, {"data": {"ciphertext": text, "key_version": version}}

    def _decrypt(self, body: dict[str, Any], bound_to: bytes) -> Answer:
        _, version, text = body["ciphertext"].split(":")
        if int(version[1:]) < self.oldest:
            return 400, {
                "errors": ["ciphertext or signature version is disallowed by policy (too old)"]
            }
        try:
            sealed = b64decode(text, validate=True)
        except ValueError:
            return 400, {"errors": ["invalid ciphertext: could not decode base64"]}
        try:
            plain = AESGCM(self.keys[int(version[1:])]).decrypt(sealed[:12], sealed[12:], bound_to)
        except (InvalidTag, KeyError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": b64encode(plain).decode()}}


@dataclass
class KmsStandIn:
    """KMS: keys by id; what they encrypted names its key, and is bound to its context."""

    keys: dict[str, bytes] = field(default_factory=lambda: {"key-one": os.urandom(32)})
    states: dict[str, str] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)

    def answer(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Answer:
        """As https://docs.aws.amazon.com/kms/latest/APIReference describes."""
        signature = headers.get("Authorization", "")
        if not signature.startswith("AWS4-HMAC-SHA256 Credential=") or "X-Amz-Date" not in headers:
            return _failure("MissingAuthenticationTokenException")
        if headers.get("Content-Type") != "application/x-amz-json-1.1":
            return _failure("SerializationException")
        for name in ("KeyId", "SourceKeyId", "DestinationKeyId"):
            if name in body and body[name] not in self.keys:
                return _failure("NotFoundException")
            if (
                self.states.get(body.get(name, ""), "Enabled") != "Enabled"
                and "Describe" not in path
            ):
                return _failure("DisabledException")
        match path.removeprefix("TrentService."):
            case "DescribeKey":
                return 200, {"KeyMetadata": self._about(body["KeyId"])}
            case "Encrypt":
                return 200, self._encrypt(
                    body["KeyId"], b64decode(body["Plaintext"]), body.get("EncryptionContext", {})
                )
            case "Decrypt":
                return self._decrypt(body)
            case "ReEncrypt":
                return self._reencrypt(body)
            case _:
                return _failure("UnknownOperationException")

    def _about(self, key_id: str) -> dict[str, Any]:
        state = self.states.get(key_id, "Enabled")
        return {
            "KeyId": key_id,
            "Enabled": state == "Enabled",
            "KeyState": state,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeySpec": "SYMMETRIC_DEFAULT",
        }

    def _encrypt(self, key_id: str, plain: bytes, context: Mapping[str, str]) -> dict[str, Any]:
        nonce = os.urandom(12)
        sealed = AESGCM(self.keys[key_id]).encrypt(nonce, plain, _bound(context))
        blob = bytes([len(key_id)]) + key_id.encode() + nonce + sealed
        return {"CiphertextBlob": b64encode(blob).decode(), "KeyId": key_id}

    def _opened(self, blob: bytes, key_id: str, context: Mapping[str, str]) -> bytes | Answer:
        name, rest = blob[1 : 1 + blob[0]].decode(errors="replace"), blob[1 + blob[0] :]
        if name not in self.keys:
            return _failure("InvalidCiphertextException")
        if name != key_id:
            return _failure("IncorrectKeyException")
        try:
            return AESGCM(self.keys[name]).decrypt(rest[:12], rest[12:], _bound(context))
        except (InvalidTag, ValueError):
            return _failure("InvalidCiphertextException")

    def _decrypt(self, body: dict[str, Any]) -> Answer:
        plain = self._opened(
            b64decode(body["CiphertextBlob"]), body["KeyId"], body.get("EncryptionContext", {})
        )
        if isinstance(plain, tuple):
            return plain
        return 200, {"Plaintext": b64encode(plain).decode(), "KeyId": body["KeyId"]}

    def _reencrypt(self, body: dict[str, Any]) -> Answer:
        plain = self._opened(
            b64decode(body["CiphertextBlob"]),
            body["SourceKeyId"],
            body.get("SourceEncryptionContext", {}),
        )
        if isinstance(plain, tuple):
            return plain
        sealed = self._encrypt(
            body["DestinationKeyId"], plain, body.get("DestinationEncryptionContext", {})
        )
        return 200, {**sealed, "SourceKeyId": body["SourceKeyId"]}


@contextmanager
def serving(service: TransitStandIn | KmsStandIn) -> Iterator[str]:
    """The service behind a port on loopback; its URL."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body would leave apart otherwise, and the body wait for a word about the head.
        disable_nagle_algorithm = True

        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            path = self.headers.get("X-Amz-Target") or self.path
            asked = service.asked
            asked.paths.append(path)
            asked.bodies.append(body)
            asked.headers.append(dict(self.headers))
            asked.may_answer.wait(10)
            status, answer = asked.instead or service.answer(path, dict(self.headers), body)
            content = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_PUT = _reply  # noqa: N815 - the base class wants these names

        def log_message(self, *_: object) -> None:
            """Nothing: a test has its own words."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        service.asked.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def _failure(code: str) -> Answer:
    return 400, {"__type": code, "message": "refused"}


def _bound(context: Mapping[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()
