"""What the doctor says of a deployment's secrets where Kubernetes shows them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from deploy.companion.care_checks import care, due_rotations
from deploy.companion.checks import Finding
from deploy.companion.data_dir import DataDir
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.prepare import create_secrets
from deploy.companion.sealing_keys import KINDS, add

POD = 10001


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders of the pod of tools, seen by its user: each file is root's and lent to its group,
    and a link by way of `..data` to a folder that changes with the Secret."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    monkeypatch.delenv("COMPANION_SETTINGS", raising=False)
    root = tmp_path / "secrets"
    Deployment(root).create(Hosts())
    for folder in (path for path in root.iterdir() if path.is_dir()):
        shown = folder / "..2026_11_28"
        shown.mkdir()
        (folder / "..data").symlink_to(shown.name)
        for path in [path for path in folder.iterdir() if path.is_file()]:
            path.rename(shown / path.name)
            path.symlink_to(f"..data/{path.name}")
            os.chown(shown / path.name, 0, POD)
            (shown / path.name).chmod(0o440)
    monkeypatch.setattr(os, "geteuid", lambda: POD)
    monkeypatch.setattr(os, "getegid", lambda: POD)
    return root


def found(secrets: Path) -> dict[str, list[Finding]]:
    findings = care(secrets, sandbox=False)
    return {
        subject: [one for one in findings if one.subject == subject]
        for subject in ("settings", "secrets", "rotation")
    }


def test_secrets_that_are_lent_to_a_pod_are_no_problem(mounted: Path) -> None:
    told = found(mounted)
    assert [one.level for one in told["secrets"]] == ["ok"]
    # compose's files are not looked for.
    assert [".env" in one.text for one in told["settings"]] == [False]


@pytest.mark.parametrize(("group", "mode"), [(POD, 0o444), (POD, 0o460), (12345, 0o440)])
def test_what_others_can_read_or_change_is_one(mounted: Path, group: int, mode: int) -> None:
    path = mounted / "chat" / "..2026_11_28" / "database_url"
    os.chown(path, 0, group)
    path.chmod(mode)
    [told] = found(mounted)["secrets"]
    assert told.level == "problem" and str(path) in told.text
    assert "defaultMode: 0440" in told.remedy


def test_the_age_of_a_mount_is_nobodys(mounted: Path) -> None:
    long_ago = time.time() - 1000 * 86_400
    for path in mounted.rglob("*.pem"):
        os.utime(path, (long_ago, long_ago))
    not_looked_at, told = found(mounted)["rotation"]
    assert not_looked_at.level == "warning" and "Not looked at" in not_looked_at.text
    assert not_looked_at.remedy
    # What stands in a file is known all the same.
    assert told.level == "ok"
    assert told.text.startswith("none is due (signing key 0 d, webhooks 0 d")
    assert "identities" not in told.text
    age(mounted / "voice" / "utterance_keys.json", "sealing_keys", days=200)
    _, due = found(mounted)["rotation"]
    assert due.text == "The keys that kept utterances are sealed with: 200 days old, due after 180."


def age(path: Path, entries: str, *, days: int) -> None:
    """Let the newest version of a file have been in use for so long."""
    document = json.loads(path.read_text())
    document[entries][-1]["from"] = int(time.time() - days * 86_400 - 60)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "entries", "days"),
    [
        ("refresh-peppers", "refresh_peppers", 180),
        ("second-factors", "sealing_keys", 180),
        ("audit", "audit_keys", 365),
    ],
)
def test_versions_are_as_old_as_they_are_in_use(
    tmp_path: Path, name: str, entries: str, days: int
) -> None:
    create_secrets(tmp_path)
    data = DataDir(tmp_path)
    age(data.signing_keys, entries, days=days - 1)
    [told] = due_rotations(data.secrets)
    assert told.level == "ok" and f"{name} {days - 1} d" in told.text
    age(data.signing_keys, entries, days=days)
    [told] = due_rotations(data.secrets)
    assert told.level == "warning" and told.remedy
    assert told.text == f"The {KINDS[name].title}: {days} days old, due after {days}."
    # The next version is shown for a moment, and then it is the one.
    add(data.signing_keys, KINDS[name], shown_seconds=60)
    assert [one.level for one in due_rotations(data.secrets)] == ["warning"]
    add(data.signing_keys, KINDS[name], shown_seconds=0)
    [told] = due_rotations(data.secrets)
    assert told.level == "ok" and f"{name} 0 d" in told.text


def test_a_version_without_a_moment_is_as_old_as_its_file(tmp_path: Path) -> None:
    """Such as those that older releases made."""
    create_secrets(tmp_path)
    data = DataDir(tmp_path)
    for path in (data.signing_keys, data.webhook_keys):
        document = json.loads(path.read_text())
        for entries in ("sealing_keys", "refresh_peppers", "audit_keys"):
            for entry in document.get(entries, []):
                del entry["from"]
        for key in document.get("keys", []):
            key["published_at"] -= 190 * 86_400
        path.write_text(json.dumps(document))
    long_ago = time.time() - 185 * 86_400
    os.utime(data.webhook_keys, (long_ago, long_ago))
    told = {one.text for one in due_rotations(data.secrets)}
    assert told == {
        f"The {KINDS['refresh-peppers'].title}: 190 days old, due after 180.",
        f"The {KINDS['second-factors'].title}: 190 days old, due after 180.",
        f"The {KINDS['webhooks'].title}: 185 days old, due after 180.",
    }
