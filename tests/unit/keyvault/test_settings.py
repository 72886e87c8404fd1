"""Settings of the keyvault."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.keyvault.settings import Settings
from shared.vendors import vendors

NEEDED = {
    "DATABASE_URL": "postgresql://localhost",
    "CACHE_URL": "redis://localhost",
    "BROKER_URL": "redis://localhost",
    "JWKS_URL": "http://localhost",
    "IDENTITY_KEY_FILE": "/k",
    "IDENTITY_TRUST_FILE": "/t",
    "KEYVAULT_KEYRING_FILE": "/keyring",
}


@pytest.fixture(autouse=True)
def needed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_vendors_are_where_they_are_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_OPENAI_URL", "http://127.0.0.1:9/openai/v1")

    urls = Settings.from_environment().provider_urls

    assert urls == {
        **{name: vendor.base_url for name, vendor in vendors.items()},
        "openai": "http://127.0.0.1:9/openai/v1",
    }


@pytest.mark.parametrize("url", ["http://vendor.test", "ftp://127.0.0.1", "vendor.test", "http://"])
def test_no_key_crosses_a_network_in_clear(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PROVIDER_GEMINI_URL", url)
    with pytest.raises(ValidationError, match="in clear"):
        Settings.from_environment()


def test_a_sandbox_may_use_a_simulator_in_its_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", "1")
    monkeypatch.setenv("PROVIDER_GEMINI_URL", "http://simulator:9/gemini")
    assert Settings.from_environment().provider_urls["gemini"] == "http://simulator:9/gemini"


def test_the_keyring_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYVAULT_KEYRING_FILE")
    with pytest.raises(ValidationError, match="KEYVAULT_KEYRING_FILE"):
        Settings.from_environment()
