"""What the doctor says of a deployment's secrets where Kubernetes shows them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.companion.care_checks import care
from deploy.companion.checks import Finding
from deploy.companion.deployment import Deployment, Hosts

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
    assert (told.level, told.text) == ("ok", "none is due (signing key 0 d)")
