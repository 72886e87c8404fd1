"""Key-encryption keys in AWS KMS.

KMS rotates the material of a key without telling; our versions are keys of their own, each with the
number that the settings give it. The place goes along as the encryption context. It is logged in
clear by CloudTrail: it holds ids and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from services.keyvault.domain.envelope import NotAuthentic
from services.keyvault.domain.key_encryption import KekPlace
from services.keyvault.domain.keyring import KeyringRefused, KeyState

_REFUSALS = {
    "NotFoundException": "kek_missing",
    "InvalidArnException": "kek_missing",
    "DisabledException": "kek_disabled",
    "KMSInvalidStateException": "kek_disabled",
    "InvalidKeyUsageException": "kek_unsuitable",
    "AccessDeniedException": "kek_forbidden",
    "UnrecognizedClientException": "kek_forbidden",
    "InvalidClientTokenId": "kek_forbidden",
    "InvalidSignatureException": "kek_forbidden",
    "SignatureDoesNotMatch": "kek_forbidden",
    "IncompleteSignature": "kek_forbidden",
    "MissingAuthenticationTokenException": "kek_forbidden",
    "OptInRequired": "kek_forbidden",
}
_BROKEN = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


def _state(version: int, active: int) -> KeyState:
    if version == active:
        return KeyState.ACTIVE
    return KeyState.STANDBY if version > active else KeyState.RETIRED


class AwsKms:
    """Speaks to KMS through `boto3`, with the credentials that it finds by its own rules."""

    name = "aws-kms"
    algorithm = b"\x03"

    def __init__(
        self,
        keys: Mapping[int, str],
        *,
        timeout_seconds: float,
        region: str | None = None,
        endpoint: str | None = None,
        active: int | None = None,
    ) -> None:
        # Only whoever chose this provider has them installed.
        boto3: Any = import_module("boto3")
        botocore: Any = import_module("botocore.config")
        self._failures: Any = import_module("botocore.exceptions")
        self._keys = keys
        self._active = active
        # One attempt: our own time limit is over before a second one would be.
        config = botocore.Config(
            connect_timeout=timeout_seconds,
            read_timeout=timeout_seconds,
            retries={"total_max_attempts": 1},
            max_pool_connections=16,
        )
        session = boto3.session.Session(region_name=region)
        self._client: Any = session.client("kms", endpoint_url=endpoint, config=config)

    def versions(self) -> Mapping[int, KeyState]:
        for key_id in self._keys.values():
            with self._asked():
                about = self._client.describe_key(KeyId=key_id)["KeyMetadata"]
            if about["KeyState"] != "Enabled":
                raise KeyringRefused("kek_disabled")
            if about.get("KeySpec") != "SYMMETRIC_DEFAULT":
                raise KeyringRefused("kek_unsuitable")
        active = self._active or max(self._keys)
        return {version: _state(version, active) for version in self._keys}

    def encrypt(self, version: int, content: bytes, place: KekPlace) -> bytes:
        with self._asked():
            answer = self._client.encrypt(
                KeyId=self._keys[version],
                Plaintext=content,
                EncryptionContext=dict(place.context),
            )
        return bytes(answer["CiphertextBlob"])

    def decrypt(self, version: int, ciphertext: bytes, place: KekPlace) -> bytes:
        with self._asked():
            answer = self._client.decrypt(
                KeyId=self._keys[version],
                CiphertextBlob=ciphertext,
                EncryptionContext=dict(place.context),
            )
        return bytes(answer["Plaintext"])

    def reencrypt(
        self, version: int, ciphertext: bytes, place: KekPlace, to: int, new_place: KekPlace
    ) -> bytes:
        """Inside KMS: the content never comes here."""
        with self._asked():
            answer = self._client.re_encrypt(
                CiphertextBlob=ciphertext,
                SourceKeyId=self._keys[version],
                SourceEncryptionContext=dict(place.context),
                DestinationKeyId=self._keys[to],
                DestinationEncryptionContext=dict(new_place.context),
            )
        return bytes(answer["CiphertextBlob"])

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (self._failures.NoCredentialsError, self._failures.PartialCredentialsError):
            raise KeyringRefused("kek_credentials_missing") from None
        except self._failures.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _BROKEN:
                raise NotAuthentic("KMS could not decrypt it") from None
            if code in _REFUSALS:
                raise KeyringRefused(_REFUSALS[code]) from None
            raise
