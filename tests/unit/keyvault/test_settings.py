"""Settings of the keyvault."""

from __future__ import annotations

import pytest

from services.keyvault.settings import Settings
from shared.settings import SettingsRefused
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
    with pytest.raises(SettingsRefused, match="in clear"):
        Settings.from_environment()


def test_a_sandbox_may_use_a_simulator_in_its_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX", "1")
    monkeypatch.setenv("PROVIDER_GEMINI_URL", "http://simulator:9/gemini")
    assert Settings.from_environment().provider_urls["gemini"] == "http://simulator:9/gemini"


def test_the_keyring_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYVAULT_KEYRING_FILE")
    with pytest.raises(SettingsRefused, match="KEYVAULT_KEYRING_FILE"):
        Settings.from_environment()


def test_a_file_is_the_default_place_of_the_keyring() -> None:
    assert Settings.from_environment().keyring == "file"


COMPLETE = {
    "env": {"KEYVAULT_KEYRING_JSON": "{}"},
    "vault-transit": {
        "KEYVAULT_INSTALLATION": "berlin-1",
        "KEYVAULT_TRANSIT_URL": "https://vault.test:8200",
        "KEYVAULT_TRANSIT_TOKEN_FILE": "/token",
    },
    "aws-kms": {
        "KEYVAULT_INSTALLATION": "berlin-1",
        "KEYVAULT_KMS_KEYS": "1=alias/old,2=arn:aws:kms:eu-central-1:1:key/2",
    },
}


@pytest.mark.parametrize("keyring", COMPLETE)
def test_each_place_of_keys_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, keyring: str
) -> None:
    monkeypatch.delenv("KEYVAULT_KEYRING_FILE")
    monkeypatch.setenv("KEYVAULT_KEYRING", keyring)
    for name, value in COMPLETE[keyring].items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().keyring == keyring
    for name, value in COMPLETE[keyring].items():
        monkeypatch.delenv(name)
        with pytest.raises(SettingsRefused, match=name):
            Settings.from_environment()
        monkeypatch.setenv(name, value)


def test_a_keyring_in_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYVAULT_KEYRING_JSON", "marked-keyring")
    assert "marked" not in repr(Settings.from_environment())


@pytest.mark.parametrize("name", ["KEYVAULT_TRANSIT_URL", "KEYVAULT_KMS_ENDPOINT"])
def test_no_data_key_crosses_a_network_in_clear(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://vault.test:8200")
    with pytest.raises(SettingsRefused, match="in clear"):
        Settings.from_environment()


@pytest.mark.parametrize("keys", ["1", "1=", "x=key", "0=key", "1=a,1=b", "=key", ","])
def test_keys_of_kms_have_a_version_each(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    for name, value in (COMPLETE["aws-kms"] | {"KEYVAULT_KMS_KEYS": keys}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEYVAULT_KEYRING", "aws-kms")
    with pytest.raises(SettingsRefused):
        Settings.from_environment()


def test_the_active_key_of_kms_is_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE["aws-kms"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEYVAULT_KEYRING", "aws-kms")
    monkeypatch.setenv("KEYVAULT_KMS_ACTIVE", "1")
    assert Settings.from_environment().kms_active == 1
    monkeypatch.setenv("KEYVAULT_KMS_ACTIVE", "3")
    with pytest.raises(SettingsRefused, match="KEYVAULT_KMS_ACTIVE"):
        Settings.from_environment()


@pytest.mark.parametrize("name", ["nowhere", "FILE"])
def test_an_unknown_place_of_keys_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("KEYVAULT_KEYRING", name)
    with pytest.raises(SettingsRefused):
        Settings.from_environment()


def test_an_operators_own_server_needs_a_url_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPATIBLE_API_KEY", "key-of-the-operator")
    assert Settings.from_environment().own_server is None
    monkeypatch.setenv("PROVIDER_COMPATIBLE_URL", "http://127.0.0.1:11434/v1")
    settings = Settings.from_environment()
    assert settings.own_server is not None
    assert settings.own_server.headers == {"authorization": "Bearer key-of-the-operator"}
    assert "key-of-the-operator" not in f"{settings!r} {settings.own_server!r}"
    monkeypatch.delenv("COMPATIBLE_API_KEY")
    keyless = Settings.from_environment().own_server
    assert keyless is not None
    assert keyless.headers == {}


@pytest.mark.parametrize("key", ["two words", "line\nend", "größe"])
def test_an_operators_key_fits_a_header(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("COMPATIBLE_API_KEY", key)
    with pytest.raises(SettingsRefused, match="COMPATIBLE_API_KEY") as wrong:
        Settings.from_environment()
    assert key not in str(wrong.value)
