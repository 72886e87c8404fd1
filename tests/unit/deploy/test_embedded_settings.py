"""Who sets what does nothing with `make run` is told so, and nobody else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.companion.console_settings import settings_of_installation
from deploy.companion.embedded_settings import idle_here
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.prepare import create_secrets
from deploy.companion.settings import Settings
from shared.settings.known import KNOWN

# What the commands themselves read, and what shapes the run as a whole.
OF_COMMANDS = {
    *("COMPANION_ADMIN_PASSWORD", "COMPANION_BACKUP_PASSPHRASE", "COMPANION_DATA_DIR"),
    *("COMPANION_PROCESS_OF", "COMPANION_SECRETS", "COMPANION_SETTINGS", "COMPANION_UID"),
    "COMPANION_VERSION",
}
OF_THE_RUN = {
    *("BROKER_URL", "CACHE_URL", "COMPANION_PROCFILE", "COMPANION_START_SECONDS", "CORS_ORIGINS"),
    *("DATABASE_URL", "LOG_LEVEL", "PORT", "SANDBOX", "TOKEN_AUDIENCE", "TOKEN_ISSUER"),
}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    told = {"COMPANION_DATA_DIR": str(tmp_path), "PORT": str(free_port()), "SANDBOX": "1"}
    installation = Installation.open(Settings.from_environment(told))
    installation.data.create()
    create_secrets(installation.data.root)
    installation.assign_ports()
    return installation


def test_what_no_process_is_told_is_named(installation: Installation) -> None:
    settings = replace(
        installation.settings, sandbox=False, inherited=dict.fromkeys(KNOWN, "marked")
    )
    marked = replace(installation, settings=settings)
    told = {
        name
        for role in marked.roles
        for name, value in marked.environment(role).items()
        if value == "marked"
    }
    of_proxies = {
        name
        for name, value in marked._proxy_environment().items()
        if value == "marked" and name.startswith(("GATEWAY_", "EGRESS_", "LEGACY_"))
    } - {"EGRESS_URL"}  # which the services read, and not the egress
    vendors = {name for name in KNOWN if name.startswith("PROVIDER_")}
    idle = KNOWN - told - of_proxies - vendors - OF_COMMANDS - OF_THE_RUN
    assert idle_here(dict.fromkeys(KNOWN, "x")) == (
        f"Set, and without effect here: {', '.join(sorted(idle))}."
    )
    assert idle_here({"PORT": "1", "CHAT_RETRIES": "2", "METRICS_PORT": ""}) == ""


def test_a_console_sees_a_services_settings_as_the_run_has_them(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.keyvault.settings import Settings as KeyvaultSettings

    monkeypatch.setenv("KEYVAULT_USES_PER_SECOND", "7")
    told = {**installation.settings.inherited, "KEYVAULT_USERS_PER_WINDOW": "0"}
    known = replace(installation, settings=replace(installation.settings, inherited=told))
    seen = settings_of_installation("keyvault", KeyvaultSettings, known)
    default = KeyvaultSettings.model_fields["uses_per_second"].default
    assert (seen.users_per_window, seen.uses_per_second) == (0, default)
