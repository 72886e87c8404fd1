"""Settings of the keyvault."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from shared.settings import CommonSettings
from shared.vendors import vendors


def _provider_urls() -> dict[str, str]:
    return {
        name: os.environ.get(f"PROVIDER_{name.upper()}_URL") or vendor.base_url
        for name, vendor in vendors.items()
    }


class Settings(CommonSettings):
    """What may differ per deployment of the keyvault."""

    keyring_file: Path = Field(validation_alias="KEYVAULT_KEYRING_FILE")
    # How often the keyring is looked at again; a mended one opens the vault within this time.
    examine_seconds: float = Field(5.0, validation_alias="KEYVAULT_EXAMINE_SECONDS", gt=0, le=300)
    # Where each vendor is, from PROVIDER_<NAME>_URL; a new vendor needs no line here.
    provider_urls: Mapping[str, str] = Field(default_factory=_provider_urls)

    @model_validator(mode="after")
    def _no_key_in_clear(self) -> Self:
        for name, url in self.provider_urls.items():
            if not self.sandbox and not _is_safe(url):
                raise ValueError(f"keys of {name} would cross the network in clear; use https")
        return self


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and _is_loopback(parts.hostname or "")
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
