"""Settings of the keyvault."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from services.keyvault.domain.own_server import OwnServer
from services.keyvault.domain.service_use import UseLimits
from shared.settings import CommonSettings, HttpUrl
from shared.tiers import COMPATIBLE
from shared.vendors import vendors


def _provider_urls() -> dict[str, str]:
    return {
        name: os.environ.get(f"PROVIDER_{name.upper()}_URL") or vendor.base_url
        for name, vendor in vendors.items()
    }


class Settings(CommonSettings):
    """What may differ per deployment of the keyvault."""

    # Where the key-encryption keys are; each place has its own settings below.
    keyring: Literal["file", "env", "vault-transit", "aws-kms"] = Field(
        "file", validation_alias="KEYVAULT_KEYRING"
    )
    keyring_file: Path | None = Field(None, validation_alias="KEYVAULT_KEYRING_FILE")
    keyring_json: SecretStr | None = Field(None, validation_alias="KEYVAULT_KEYRING_JSON")
    # Bound into every seal when a key service holds the keys; a file has such a name inside.
    installation: str = Field(
        "", validation_alias="KEYVAULT_INSTALLATION", pattern=r"^([A-Za-z0-9._-]{1,64})?$"
    )
    transit_url: str = Field("", validation_alias="KEYVAULT_TRANSIT_URL")
    transit_token_file: Path | None = Field(None, validation_alias="KEYVAULT_TRANSIT_TOKEN_FILE")
    transit_key: str = Field("companion", validation_alias="KEYVAULT_TRANSIT_KEY")
    transit_mount: str = Field("transit", validation_alias="KEYVAULT_TRANSIT_MOUNT")
    transit_namespace: str | None = Field(None, validation_alias="KEYVAULT_TRANSIT_NAMESPACE")
    transit_ca_file: Path | None = Field(None, validation_alias="KEYVAULT_TRANSIT_CA_FILE")
    # version=key id, comma separated; the active version wraps what is new, the highest by default.
    kms_keys: str = Field("", validation_alias="KEYVAULT_KMS_KEYS")
    kms_active: int | None = Field(None, validation_alias="KEYVAULT_KMS_ACTIVE", ge=1)
    kms_region: str | None = Field(None, validation_alias="KEYVAULT_KMS_REGION")
    kms_endpoint: str | None = Field(None, validation_alias="KEYVAULT_KMS_ENDPOINT")
    # Nobody waits longer for a key service, and no data key stays unwrapped for longer than this.
    kek_timeout_seconds: float = Field(
        3.0, validation_alias="KEYVAULT_KEK_TIMEOUT_SECONDS", gt=0, le=30
    )
    data_key_seconds: float = Field(60.0, validation_alias="KEYVAULT_DATA_KEY_SECONDS", ge=0, le=60)
    # How often the keyring is looked at again; a mended one opens the vault within this time.
    examine_seconds: float = Field(5.0, validation_alias="KEYVAULT_EXAMINE_SECONDS", gt=0, le=300)
    # Asked who decides about an organisation's keys; without it nobody does.
    auth_internal_url: HttpUrl | None = Field(None, validation_alias="AUTH_INTERNAL_URL")
    # What is usual, of all processes together; 0 lifts a limit. More than this is refused.
    uses_per_second: int = Field(
        1000, validation_alias="KEYVAULT_USES_PER_SECOND", ge=0, le=1_000_000
    )
    uses_per_user_minute: int = Field(
        600, validation_alias="KEYVAULT_USES_PER_USER_MINUTE", ge=0, le=100_000
    )
    # How often the keys of one owner are stored, and checked, each counted by itself.
    checks_per_owner_minute: int = Field(
        20, validation_alias="KEYVAULT_CHECKS_PER_OWNER_MINUTE", ge=0, le=100_000
    )
    # A service that uses the keys of more users than this within the window is stopped.
    users_per_window: int = Field(
        10_000, validation_alias="KEYVAULT_USERS_PER_WINDOW", ge=0, le=100_000_000
    )
    users_window_minutes: int = Field(
        10, validation_alias="KEYVAULT_USERS_WINDOW_MINUTES", ge=1, le=60
    )
    # How often the processes tell each other of their uses.
    watch_seconds: float = Field(1.0, validation_alias="KEYVAULT_WATCH_SECONDS", gt=0, le=2)
    # An operator's own server in OpenAI's manner, and their key for it, if it wants one.
    compatible_url: str = Field("", validation_alias="PROVIDER_COMPATIBLE_URL")
    compatible_api_key: SecretStr | None = Field(None, validation_alias="COMPATIBLE_API_KEY")
    # Where each vendor is, from PROVIDER_<NAME>_URL; a new vendor needs no line here.
    provider_urls: Mapping[str, str] = Field(default_factory=_provider_urls)

    @property
    def report_good_for(self) -> timedelta:
        """How long a process counts as running with the keyring that it last told of."""
        return timedelta(seconds=3 * self.examine_seconds + 5)

    @property
    def kms_key_ids(self) -> dict[int, str]:
        """The keys at KMS by version. Raises ValueError."""
        pairs = [pair.partition("=") for pair in self.kms_keys.split(",") if pair.strip()]
        try:
            keys = {int(version): key.strip() for version, _, key in pairs}
        except ValueError:
            keys = {}
        if len(keys) != len(pairs) or not all(keys.values()) or min(keys, default=0) < 1:
            raise ValueError("KEYVAULT_KMS_KEYS is not of the form 1=key,2=key")
        return keys

    @model_validator(mode="after")
    def _whole_keyring(self) -> Self:
        """What the chosen place needs is there. What is wrong with it seals the vault, later."""
        needed: dict[str, dict[str, Any]] = {
            "file": {"KEYVAULT_KEYRING_FILE": self.keyring_file},
            "env": {"KEYVAULT_KEYRING_JSON": self.keyring_json},
            "vault-transit": {
                "KEYVAULT_INSTALLATION": self.installation,
                "KEYVAULT_TRANSIT_URL": self.transit_url,
                "KEYVAULT_TRANSIT_TOKEN_FILE": self.transit_token_file,
            },
            "aws-kms": {
                "KEYVAULT_INSTALLATION": self.installation,
                "KEYVAULT_KMS_KEYS": self.kms_keys,
            },
        }
        missing = [name for name, value in needed[self.keyring].items() if not value]
        if missing:
            raise ValueError(f"KEYVAULT_KEYRING={self.keyring} needs {', '.join(missing)}")
        if self.keyring == "aws-kms" and self.kms_active not in {None, *self.kms_key_ids}:
            raise ValueError("KEYVAULT_KMS_ACTIVE is none of the versions in KEYVAULT_KMS_KEYS")
        places = {
            "KEYVAULT_TRANSIT_URL": self.transit_url,
            "KEYVAULT_KMS_ENDPOINT": self.kms_endpoint,
        }
        for name, url in places.items():
            if url and not _is_safe(url):
                raise ValueError(f"{name}: data keys would cross the network in clear; use https")
        return self

    @property
    def own_server(self) -> OwnServer | None:
        """None where the operator has no server of their own."""
        if not self.compatible_url:
            return None
        key = self.compatible_api_key
        return OwnServer(COMPATIBLE, key.get_secret_value() if key else None)

    @model_validator(mode="after")
    def _key_fits_a_header(self) -> Self:
        key = self.compatible_api_key
        if key and not all("!" <= character <= "~" for character in key.get_secret_value()):
            raise ValueError("COMPATIBLE_API_KEY holds a character that no key has")
        return self

    @property
    def use_limits(self) -> UseLimits:
        return UseLimits(
            uses_per_second=self.uses_per_second,
            uses_per_user_minute=self.uses_per_user_minute,
            users_per_window=self.users_per_window,
            window=timedelta(minutes=self.users_window_minutes),
        )

    @model_validator(mode="after")
    def _no_key_in_clear(self) -> Self:
        for name, url in self.provider_urls.items():
            if not self.sandbox and not _is_safe(url):
                raise ValueError(
                    f"PROVIDER_{name.upper()}_URL: keys would cross the network in clear; use https"
                )
        return self


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that do not match
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and _is_loopback(parts.hostname or "")
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
