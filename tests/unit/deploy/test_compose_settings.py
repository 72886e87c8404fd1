"""Each setting of a deployment with compose has one place, and one elsewhere is told."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.companion.care_checks import care
from deploy.companion.cli import app
from deploy.companion.compose_settings import FROM_DOT_ENV, OF_COMPOSE, SettingsFiles
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.programs import SERVICES
from deploy.companion.settings import ROOT
from shared.settings.known import KNOWN

FILES = [ROOT / "docker-compose.yml", *(ROOT / "deploy" / "compose").glob("*.yml")]
CONTAINERS: Mapping[str, Any] = yaml.safe_load(FILES[0].read_text("utf-8"))["services"]
DOT_ENV = OF_COMPOSE.union(*FROM_DOT_ENV.values())


def told(file: str) -> Iterator[tuple[str, str]]:
    """What compose tells those who read a file of settings."""
    for name, container in CONTAINERS.items():
        paths = {one["path"].rpartition("/")[2] for one in container.get("env_file", [])}
        if f"{file}.env" in paths and name != "tools":
            yield from container["environment"].items()


@pytest.mark.parametrize("file", sorted(FROM_DOT_ENV))
def test_the_list_is_what_compose_says(file: str, tmp_path: Path) -> None:
    said = dict(told(file))
    passed_on = {name for name, value in said.items() if value.startswith("${")}
    assert passed_on == FROM_DOT_ENV[file]
    # And whatever else it says is found out where it does nothing.
    text = "".join(f"{name}=x\n" for name in said if name not in {"TMPDIR"})
    (tmp_path / f"{file}.env").write_text(text)
    troubles = list(SettingsFiles(tmp_path, tmp_path / ".env").troubles())
    assert [one.split()[0] for one in troubles] == sorted(said.keys() - {"TMPDIR"})


def test_everybody_who_is_told_settings_has_a_file() -> None:
    assert set(FROM_DOT_ENV) == {*SERVICES, "gateway", "egress"}


def test_compose_takes_from_the_environment_what_the_lists_say() -> None:
    found = {name for path in FILES for name in re.findall(r"\$\{([A-Z_]+)", path.read_text())}
    assert found == DOT_ENV


def test_the_docs_name_what_stands_in_the_environments_file() -> None:
    text = (ROOT / "docs" / "compose.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `.env`")]
    assert len(rows) == 2
    assert {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)} == DOT_ENV


def test_the_example_has_each_with_its_default() -> None:
    example = (ROOT / "deploy" / "compose" / ".env.example").read_text("utf-8")
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert shown.keys() == DOT_ENV
    for path in FILES:
        for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", path.read_text()):
            if not name.startswith("LEGACY_"):  # those are for a profile
                assert shown[name] == default, name


def test_what_does_nothing_where_it_stands_is_told_with_its_place(tmp_path: Path) -> None:
    folder, dot_env = tmp_path / "settings", tmp_path / ".env"
    folder.mkdir()
    dot_env.write_text(
        "# GATEWAY_STREAM_IDLE_SECONDS=1\nPORT=80\nMY_OWN=1\nGATEWAY_TRUSTED_PROXIES=1\n"
        "MODEL_OVERRIDES={}\nCORS_ORIGINS=https://a.example\nJWKS_URL=http://x\n"
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://x\n"
    )
    (folder / "gateway.env").write_text("GATEWAY_TRUSTED_PROXIES=1\nCORS_ORIGINS=https://b.example")
    (folder / "auth.env").write_text("export AUTH_PUBLIC_URL=https://c.example\nAUTH_ARGON=1\n")
    (folder / "mail.env").write_text("AUTH_SMTP_URL_FILE=/run/secrets/smtp_url\n")
    assert list(SettingsFiles(folder, dot_env).troubles()) == [
        f"AUTH_PUBLIC_URL in {folder}/auth.env does nothing: compose takes it from .env.",
        f"Nobody reads what {folder}/auth.env calls AUTH_ARGON.",
        f"CORS_ORIGINS in {folder}/gateway.env does nothing: compose takes it from .env.",
        f"Nobody reads {folder}/mail.env; there are: {', '.join(FROM_DOT_ENV)}.",
        f"GATEWAY_TRUSTED_PROXIES in {dot_env} does nothing: it belongs into {folder}/gateway.env.",
        f"JWKS_URL in {dot_env} does nothing: compose says it itself.",
        f"MODEL_OVERRIDES in {dot_env} does nothing: it belongs into {folder}/chat.env and "
        "voice.env.",
        f"OTEL_EXPORTER_OTLP_ENDPOINT in {dot_env} does nothing: it belongs into the files of "
        f"{folder} whose services read it.",
    ]


def read_by(service: str) -> frozenset[str]:
    fields = importlib.import_module(f"services.{service}.settings").Settings.model_fields
    return KNOWN & {str(field.validation_alias) for field in fields.values()}


@pytest.mark.parametrize("file", sorted(FROM_DOT_ENV))
def test_what_stands_in_the_file_of_somebody_else_is_told(file: str, tmp_path: Path) -> None:
    for_all = frozenset.intersection(*map(read_by, SERVICES))
    services = frozenset.union(*map(read_by, SERVICES)) - DOT_ENV - for_all
    proxies = {name for name in KNOWN if name.startswith(("GATEWAY_", "EGRESS_"))} - DOT_ENV
    theirs = read_by(file) if file in SERVICES else {n for n in proxies if file.upper() in n[:7]}
    if file == "egress":
        theirs |= {"PROVIDER_COMPATIBLE_URL"}
    (tmp_path / f"{file}.env").write_text("".join(f"{n}=x\n" for n in services | proxies))
    told = list(SettingsFiles(tmp_path, tmp_path / ".env").troubles())
    wrong_here = {line.split()[0] for line in told if "compose says it itself" not in line}
    by_compose = {line.split()[0] for line in told} - wrong_here
    assert len(wrong_here) > 50
    assert wrong_here == (services | proxies) - theirs - by_compose


def test_a_place_that_ends_with_its_container_is_told(tmp_path: Path) -> None:
    (tmp_path / "billing.env").write_text(
        'BILLING_LEDGER_ARCHIVE_DIR="/tmp/ledger"\nBILLING_EXPORT_TARGET=file:///dev/shm\n'
    )
    files = SettingsFiles(tmp_path, tmp_path / ".env")
    assert list(files.troubles()) == [
        f"{name} in {tmp_path}/billing.env names a container's memory, and what is there ends with"
        " it: /files is a volume."
        for name in ("BILLING_EXPORT_TARGET", "BILLING_LEDGER_ARCHIVE_DIR")
    ]
    (tmp_path / "billing.env").write_text(
        "BILLING_LEDGER_ARCHIVE_DIR=/files/ledger\nBILLING_EXPORT_TARGET=s3://days/tmp\n"
    )
    assert list(files.troubles()) == []


def test_a_secret_as_a_file_and_what_all_may_read_have_their_places(tmp_path: Path) -> None:
    text = "COMPATIBLE_API_KEY_FILE=/run/secrets/key\nOTEL_EXPORTER_OTLP_ENDPOINT=http://x\n"
    for file in ("keyvault", "chat"):
        (tmp_path / f"{file}.env").write_text(text)
    assert list(SettingsFiles(tmp_path, tmp_path / ".env").troubles()) == [
        f"COMPATIBLE_API_KEY_FILE in {tmp_path}/chat.env does nothing: it belongs into "
        f"{tmp_path}/keyvault.env."
    ]


@pytest.mark.parametrize(
    "line",
    [
        "COMPANION_SETTINGS=elsewhere",
        "COMPANION_SETTINGS = ./elsewhere  # ours",
        'export COMPANION_SETTINGS="{tmp}/elsewhere"',
    ],
)
def test_the_folder_is_the_one_that_compose_reads(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPANION_SETTINGS", raising=False)
    (tmp_path / "settings").mkdir()
    (tmp_path / ".env").write_text(line.format(tmp=tmp_path) + "\n")
    assert SettingsFiles.beside(tmp_path / "secrets").folder == tmp_path / "elsewhere"
    monkeypatch.setenv("COMPANION_SETTINGS", "/another")
    assert SettingsFiles.beside(tmp_path / "secrets").folder == Path("/another")


def test_a_check_says_what_it_did_not_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPANION_SETTINGS", raising=False)
    secrets, settings, dot_env = (tmp_path / name for name in ("secrets", "settings", ".env"))
    Deployment(secrets).create(Hosts())
    settings.mkdir()
    words = ["deployment", "check", str(secrets), "--uid", str(os.geteuid())]
    said = CliRunner().invoke(app, words).output
    assert f"Every setting of ours in {settings} is read." in said
    assert f"Not looked at: {dot_env}, which is not here." in said
    [found] = [one for one in care(secrets, sandbox=False) if one.subject == "settings"]
    assert found.level == "ok" and f"not looked at: {dot_env}" in found.text

    dot_env.write_text("PORT=80\n")
    (settings / "auth.env").write_text("CHAT_RETRIES=1\n")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "CHAT_RETRIES" in done.output
    assert "is read" not in done.output


def test_nothing_is_told_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPANION_SETTINGS", raising=False)
    files = SettingsFiles.beside(tmp_path / "secrets")
    assert (files.found(), list(files.troubles())) == ([], [])
