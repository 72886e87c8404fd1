"""The tools' container does every operator's command of the docs, with what compose tells it.

And the pods of Kubernetes do theirs, with what they are told and shown.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from deploy.companion import server_checks
from deploy.companion.cli import app
from deploy.companion.commands import secrets as secrets_commands
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.errors import CompanionError
from deploy.companion.programs import SERVICES
from deploy.companion.settings import ROOT

NOWHERE = "127.0.0.1:9"
DELETED = (
    '{"id": "01930000-0000-7000-8000-000000000001", "receipt_hash": "00",'
    ' "user_id": "01930000-0000-7000-8000-000000000002",'
    ' "requested_at": "2026-11-01T00:00:00+00:00"}\n'
)

# Each with what it needs to get as far as the engines.
ASKING: Mapping[str, Sequence[str]] = {
    "admin create": ("--email", "ann@example.org", "--password", "a long enough password"),
    "admin disable": ("ann",),
    "admin enable": ("ann",),
    "admin reset-second-factor": ("ann",),
    "admin role": ("ann", "member"),
    "auth audit list": (),
    "auth audit verify": (),
    "auth clients add": ("--name", "Editor", "--redirect-uri", "https://editor.example/back"),
    "auth clients disable": ("editor",),
    "auth clients list": (),
    "auth erasures": (),
    "backup create": ("{tmp}/backup", "--without-secrets"),
    "backup erasures": ("{tmp}/erasures",),
    "backup forget": ("{tmp}/deleted",),
    "events close": ("billing", "1", "--reason", "a test"),
    "events list": (),
    "events replay": ("billing", "1"),
    "events show": ("billing", "1"),
    "keyring retire": ("1", "--wait-seconds", "0"),
    "keyring rewrap": (),
    "keyring status": (),
    "keyvault resume": ("chat",),
    "keyvault status": (),
    "keyvault stop": ("chat", "--reason", "a test"),
    "ledger archive list": (),
    "ledger archive verify": (),
    "ledger status": (),
    "ledger verify": (),
    "migrate": (),
    "reporting create": ("analyst", "--password-file", "{tmp}/password"),
    "reporting grant": (),
    "secrets list": (),
    "secrets retire": ("webhooks", "1"),
    "secrets rotate": ("webhooks", "--shown-seconds", "0"),
}
# What looks at files alone, and so is done here.
DONE: Mapping[str, Sequence[str]] = {
    "auth rotate-signing-key": (),
    "auth signing-keys": (),
    "deployment check": ("/secrets", "--uid", str(os.geteuid())),
    "deployment users": ("/secrets",),
    "identities list": (),
    "keyring add": (),
    "identities rotate": ("chat", "--pause-seconds", "0"),
}
# Each tells all that it can't reach.
TELLING = {"doctor"}
# Those that are about this machine or another service, or that need more than an empty suite.
ELSEWHERE = {
    *("auth remove-signing-key", "backup drill", "backup restore", "backup verify", "demo"),
    *("deployment create", "down", "env", "keyring activate", "keyring init"),
    *("passwords rotate", "restart", "status", "up"),
}
ENGINES = {check.__name__ for check in server_checks.ALL}
TRIED = ASKING.keys() | DONE.keys() | TELLING
# In Kubernetes secrets are shown to be read: what changes them is done in the folder.
CHANGING = {"secrets rotate"}


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment's folder, in an environment that is the tools' of docker-compose.yml."""
    folder = tmp_path / "secrets"
    Deployment(folder).create(Hosts(NOWHERE, NOWHERE, NOWHERE))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    tools = compose["services"]["tools"]
    assert tools["volumes"] == [
        "${COMPANION_SECRETS:-./secrets}:/secrets",
        "billing-files:/files",
    ]
    told = {n: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", v) for n, v in tools["environment"].items()}
    _tell(monkeypatch, told, folder)
    # And of the operator's own settings some that name what is among a service's secrets.
    (folder / "auth" / "smtp_url").write_text("smtps://user:password@mail.example")
    monkeypatch.setenv("AUTH_SMTP_URL_FILE", "/run/secrets/smtp_url")
    monkeypatch.setenv("AUTH_MAIL_FROM", "mail@companion.example")
    # A key that stands by may sign at once, and nobody looks at a file of sealing keys.
    monkeypatch.setenv("AUTH_SIGNING_KEY_PUBLISH_SECONDS", "0")
    hasty = SimpleNamespace(sleep=lambda _: None, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(secrets_commands, "time", hasty)
    return folder


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """The folder of secrets as a container of Kubernetes sees it, which is told its environment."""

    def show(container: Any) -> Path:
        made, seen = tmp_path / "made", tmp_path / "secrets"
        Deployment(made).create(Hosts(NOWHERE, NOWHERE, NOWHERE))
        for mount in container["volumeMounts"]:
            if mount["mountPath"].startswith("/secrets/"):
                assert mount["readOnly"] is True
                shutil.copytree(made / mount["name"], seen / mount["name"])
        told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        _tell(monkeypatch, told, seen)
        return seen

    return show


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not the product's, beside what commands take from a file."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "deleted").write_text(DELETED)
    (tmp_path / "password").write_text("a long enough password")
    (tmp_path / "passphrase").write_text("a long enough passphrase")
    monkeypatch.chdir(tmp_path / "elsewhere")


def _tell(monkeypatch: pytest.MonkeyPatch, told: Mapping[str, str], secrets: Path) -> None:
    for name in set(os.environ) - {"PATH", "HOME", "LD_LIBRARY_PATH"}:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value.replace("/secrets", str(secrets)))


def companion(words: str, more: Sequence[str], secrets: Path) -> Any:
    places = {"tmp": str(secrets.parent)}
    said = [word.format(**places).replace("/secrets", str(secrets)) for word in more]
    return CliRunner().invoke(app, [*words.split(), *said])


def got_as_far_as_the_engines(done: Any) -> None:
    assert done.exit_code == 1, done.output
    failure = done.exception
    assert isinstance(failure, CompanionError), (failure, done.output)
    assert "started yet" not in failure.message
    assert re.search(r"reach|can't be used|away|not available", failure.message), failure.message


@pytest.mark.parametrize("words", sorted(ASKING))
def test_a_command_gets_as_far_as_the_engines(words: str, secrets: Path) -> None:
    got_as_far_as_the_engines(companion(words, ASKING[words], secrets))


@pytest.mark.parametrize("words", sorted(ASKING.keys() - CHANGING))
def test_a_command_gets_as_far_in_a_pod(words: str, shown: Callable[[Any], Path]) -> None:
    [pod] = _manifests("tools/pod.yaml")
    [container] = pod["spec"]["containers"]
    got_as_far_as_the_engines(companion(words, ASKING[words], shown(container)))


@pytest.mark.parametrize("name", ["backup", "erasures"])
def test_what_runs_by_the_clock_gets_as_far(name: str, shown: Callable[[Any], Path]) -> None:
    [job] = [one for one in _manifests("backup/cronjobs.yaml") if one["metadata"]["name"] == name]
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    got_as_far_as_the_engines(carried_out(container, container["args"], shown(container)))


def test_who_had_been_deleted_can_be_deleted_again(shown: Callable[[Any], Path]) -> None:
    [job] = _manifests("restore/job.yaml")
    [container] = job["spec"]["template"]["spec"]["containers"]
    [patch] = _manifests("overlays/production/forget/kustomization.yaml")[0]["patches"]
    [patched] = yaml.safe_load(patch["patch"])["spec"]["template"]["spec"]["containers"]
    got_as_far_as_the_engines(carried_out(container, patched["args"], shown(container)))


def carried_out(container: Any, args: Sequence[str], secrets: Path) -> Any:
    """A container's own command, whose files are in a folder of ours."""
    places = {"/run/secrets/passphrase": "passphrase", "/erasures/deleted": "deleted"}
    said = [str(secrets.parent / places.get(one, one.removeprefix("/backups/"))) for one in args]
    words = [path if one.startswith("/") else one for one, path in zip(args, said, strict=True)]
    return CliRunner().invoke(app, words)


def _manifests(path: str) -> list[Any]:
    text = (ROOT / "deploy" / "k8s" / path).read_text("utf-8")
    return [one for one in yaml.safe_load_all(text) if one]


def test_the_doctor_tells_all_that_it_can_not_reach(secrets: Path) -> None:
    (secrets / "auth" / "smtp_url").chmod(0o600)
    assert the_doctors_problems(secrets) == ENGINES


def test_the_doctor_finds_no_fault_with_what_a_pod_is_shown(shown: Callable[[Any], Path]) -> None:
    [pod] = _manifests("tools/pod.yaml")
    assert the_doctors_problems(shown(pod["spec"]["containers"][0])) == ENGINES


def the_doctors_problems(secrets: Path) -> set[str]:
    done = companion("doctor", ["--deployment"], secrets)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    return {row.split()[1] for row in done.output.splitlines() if row.startswith("problem")}


@pytest.mark.parametrize("words", sorted(DONE))
def test_a_command_that_needs_no_engine_is_done(words: str, secrets: Path) -> None:
    done = companion(words, DONE[words], secrets)
    assert done.exit_code == 0, (done.exception, done.output)
    assert done.output


def test_identities_are_exchanged_in_every_folder(secrets: Path) -> None:
    before = {service: (secrets / service / "identities.json").read_text() for service in SERVICES}
    companion("identities rotate", DONE["identities rotate"], secrets)
    for service, text in before.items():
        assert (secrets / service / "identities.json").read_text() != text, service


def test_a_services_settings_name_files_among_its_own_secrets(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy.companion.ledger import billing_settings

    (secrets / "billing" / "stripe_api_key").write_text("sk_test_1")
    monkeypatch.setenv("STRIPE_API_KEY_FILE", "/run/secrets/stripe_api_key")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRETS", '["whsec_1"]')
    monkeypatch.setenv("STRIPE_RETURN_URL", "https://companion.example")
    monkeypatch.setenv("STRIPE_PRICES", '{"pro": "price_1", "enterprise": "price_2"}')
    key = billing_settings().stripe_api_key
    assert key is not None and key.get_secret_value() == "sk_test_1"


def test_every_command_of_the_docs_is_tried_here() -> None:
    known = {" ".join(words) for words in _commands()}
    assert known >= TRIED | ELSEWHERE
    assert set(_of_the_docs(known)) <= TRIED | ELSEWHERE


def _commands() -> Iterator[tuple[str, ...]]:
    whole: Any = typer.main.get_command(app)
    for name in whole.list_commands(None):
        yield from _below(whole.get_command(None, name), name)


def _below(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    if not hasattr(command, "commands"):
        yield words
        return
    for name, one in command.commands.items():
        yield from _below(one, *words, name)


def _of_the_docs(known: set[str]) -> Iterator[str]:
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for said in re.findall(r"companion((?: [a-z-]+)+)", path.read_text("utf-8")):
            words = said.split()
            yield from (" ".join(words[:n]) for n in (1, 2, 3) if " ".join(words[:n]) in known)
