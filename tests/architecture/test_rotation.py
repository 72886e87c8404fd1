"""Nobody adds a secret without saying how it is exchanged."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from deploy.companion.care_checks import ROTATED_WITHIN
from deploy.companion.commands import secrets as commands
from deploy.companion.deployment import Deployment
from deploy.companion.programs import SERVICES
from deploy.companion.sealing_keys import KINDS
from shared.settings.secret_files import is_secret, name_of

PAGE = (Path(__file__).parents[2] / "docs" / "rotation.md").read_text()
# Files that hold no secret.
NO_SECRETS = {
    "AUTH_BREACHED_PASSWORDS_FILE",
    "BILLING_TAX_FILE",
    "KEYVAULT_TRANSIT_CA_FILE",
    "READY_FILE",
}


@pytest.mark.parametrize("service", SERVICES)
def test_each_secret_setting_is_in_the_table(service: str) -> None:
    settings = importlib.import_module(f"services.{service}.settings").Settings
    names = {
        name_of(field, field_name): field for field_name, field in settings.model_fields.items()
    }
    secrets = {name for name, field in names.items() if is_secret(field) or name.endswith("_FILE")}
    assert {"DATABASE_URL", "IDENTITY_KEY_FILE"} <= secrets
    assert {name for name in secrets - NO_SECRETS if f"`{name}`" not in PAGE} == set()


def test_each_secret_of_a_deployment_is_in_the_table() -> None:
    by_setting = {
        "database_url": "DATABASE_URL",
        "cache_url": "CACHE_URL",
        "broker_url": "BROKER_URL",
        "identity.pem": "IDENTITY_KEY_FILE",
        "identities.json": "IDENTITY_TRUST_FILE",
        "signing_keys.json": "AUTH_SIGNING_KEYS_FILE",
        "keyring.json": "KEYVAULT_KEYRING_FILE",
        "utterance_keys.json": "VOICE_CACHE_KEYS_FILE",
        "webhook_keys.json": "BILLING_WEBHOOK_KEYS_FILE",
        # Made of the same passwords, for the engines.
        "init.sql": "two logins in turn",
        "users.acl": "users.acl",
        "definitions.json": "definitions.json",
    }
    for path in Deployment(Path("/x")).files():
        assert by_setting.get(path.name, f"{path.parent.name}/{path.name}") in PAGE, path


def test_the_commands_are_as_the_table_says() -> None:
    told = set(re.findall(r"companion secrets rotate ([a-z-]+)", PAGE))
    assert told == set(KINDS)
    assert {command.name for command in commands.app.registered_commands} >= {"list"}


def test_the_doctor_looks_at_what_the_table_says_and_as_often() -> None:
    named = {
        "signing key": "Signing keys of access tokens",
        "refresh-peppers": "Peppers of refresh tokens",
        "second-factors": "Keys of second factors and waiting mails",
        "audit": "Key of the audit trail's chain",
        "webhooks": "Sealing keys of webhooks",
        "utterances": "Sealing keys of utterances",
        "keyring": "Keyring: keys that wrap data keys",
        "identities": "Identities of services",
        "passwords": "Passwords of the embedded engines (PostgreSQL's role and superuser, Valkey)",
    }
    assert set(ROTATED_WITHIN) == named.keys()
    assert set(KINDS) < named.keys()
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    every = {cells[0]: cells[-1].replace("a year", "365 days") for cells in rows}
    for name, within in ROTATED_WITHIN.items():
        assert every[named[name]] == f"{within.days} days", name
    # What it doesn't look at, the page says.
    assert "`companion doctor` does not know" in PAGE
