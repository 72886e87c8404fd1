"""What stands in the way of a start is told in one sentence, with what to do."""

import os
import socket
from pathlib import Path

import pytest

from deploy.companion.checks import BEFORE_START, Finding, examine, require
from deploy.companion.databases import connect
from deploy.companion.engines.postgres import check_version, engine_version
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.prepare import create_secrets
from deploy.companion.settings import Settings


def an_installation(folder: Path, **environment: str) -> Installation:
    variables = {"COMPANION_DATA_DIR": str(folder / "data"), "PORT": str(free_port())}
    return Installation.open(Settings.from_environment({**variables, **environment}))


def problems(installation: Installation) -> list[Finding]:
    return [finding for finding in examine(installation) if finding.level == "problem"]


def test_a_new_data_directory_has_no_problem(tmp_path: Path) -> None:
    installation = an_installation(tmp_path)
    assert problems(installation) == []
    require(installation)


def test_a_taken_port_is_told_with_who_has_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CompanionError, match=f"Port {port} is taken by .*pid {os.getpid()}"):
            require(an_installation(tmp_path, PORT=str(port)))


def test_a_cluster_of_another_major_version_is_refused(tmp_path: Path) -> None:
    installation = an_installation(tmp_path)
    installation.data.create()
    installation.data.postgres.mkdir()
    (installation.data.postgres / "PG_VERSION").write_text("9\n")
    with pytest.raises(CompanionError, match=f"PostgreSQL 9.*PostgreSQL {engine_version()}"):
        check_version(installation.data.postgres)
    with pytest.raises(CompanionError, match="made by PostgreSQL 9"):
        require(installation)


def test_a_cluster_of_this_version_is_welcome(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text(engine_version() + "\n")
    check_version(tmp_path)


def test_an_outside_server_needs_no_cluster_here(tmp_path: Path) -> None:
    installation = an_installation(tmp_path, DATABASE_URL="postgresql://u:p@h:1")
    assert "postgres" not in {role.name for role in installation.roles}
    assert problems(installation) == []


def test_a_file_in_the_place_of_the_data_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(CompanionError, match="can't be written"):
        require(an_installation(tmp_path))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(CompanionError, match="Only 0 MiB are free"):
        require(an_installation(tmp_path))


def test_secrets_that_others_can_read_are_told(tmp_path: Path) -> None:
    installation = an_installation(tmp_path)
    installation.data.create()
    create_secrets(installation.data.root)
    assert problems(installation) == []
    installation.data.keyring.chmod(0o644)
    [problem] = problems(installation)
    assert "keyvault-keyring.json" in problem.text


def test_a_lock_holds_nothing_that_others_could_read(tmp_path: Path) -> None:
    installation = an_installation(tmp_path)
    installation.data.create()
    create_secrets(installation.data.root)
    lock = installation.data.identities / ".lock"
    lock.touch()
    # As older releases left it.
    lock.chmod(0o644)
    assert problems(installation) == []
    lock.write_text("something")
    assert len(problems(installation)) == 1


def test_secrets_that_are_gone_or_damaged_are_told_while_nothing_runs(tmp_path: Path) -> None:
    installation = an_installation(tmp_path)
    data = installation.data
    data.create()
    create_secrets(data.root)
    data.passwords.unlink()
    data.keyring.write_text("{")
    data.signing_keys.write_text('{"keys": []}')
    found = [one for one in problems(installation) if "can't be" in one.text]
    told = " ".join(one.text for one in found)
    assert len(found) == 3 and all(one.remedy for one in found)
    assert f"{data.passwords}" in told
    assert f"The keyring {data.keyring} can't be used: keyring_malformed." in told
    assert f"The signing keys {data.signing_keys} can't be used" in told


def test_engines_of_others_need_no_passwords_of_ours(tmp_path: Path) -> None:
    engines = {"DATABASE_URL": "postgresql://u:p@h:1", "CACHE_URL": "redis://h"}
    installation = an_installation(tmp_path, **engines, BROKER_URL="redis://h")
    installation.data.create()
    create_secrets(installation.data.root)
    installation.data.passwords.unlink()
    assert problems(installation) == []


def test_a_missing_engine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.companion.engines.binaries.find_spec", lambda _: None)
    with pytest.raises(CompanionError, match="PostgreSQL is not installed") as caught:
        require(an_installation(tmp_path))
    assert "make setup" in caught.value.remedy
    assert "DATABASE_URL" in caught.value.remedy


def test_a_platform_without_a_build_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(CompanionError, match=r"no build of Valkey for .* on riscv64"):
        require(an_installation(tmp_path))


def test_what_up_checks_is_part_of_what_doctor_checks() -> None:
    from deploy.companion.checks import ALL

    assert set(BEFORE_START) < set(ALL)


def test_of_what_postgresql_says_the_first_line_is_told() -> None:
    """The last one asks whether it runs, whatever it was."""
    url = f"postgresql://u:marked-password@127.0.0.1:{free_port()}"
    with pytest.raises(CompanionError, match="Connection refused") as caught:
        connect(url)
    assert "marked-password" not in str(caught.value)
