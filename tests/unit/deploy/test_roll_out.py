"""The way from one version to the next in containers, as docs/compose.md has it, line by line."""

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.companion.settings import ROOT

PAGE = (ROOT / "docs" / "compose.md").read_text("utf-8")
WAY = PAGE.partition("## Roll out a new version")[2].partition("\n## ")[0]
DATABASES, PROCESSES, _FAILED, PROXIES = re.findall(r"^```sh\n(.*?)^```", WAY, re.M | re.S)
FUNCTIONS, ORDER = PROCESSES.partition("\n}\n")[0] + "\n}\n", PROCESSES.partition("\n}\n")[2]
BEHIND = {"worker", "beat", "relay"}

_DOCKER = """#!/bin/sh
echo "$*" >> "$RECORD"
case "$*" in
    "compose ps --quiet "*) printf '%b' "$OLD" ;;
    *--wait*) exit "$HEALTH" ;;
esac
"""


def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def of_kind(*kinds: str) -> list[str]:
    commands = {name: one.get("command") for name, one in services().items()}
    return sorted(
        name
        for name, said in commands.items()
        if said
        and str(services()[name]["image"]).startswith("${COMPANION_REGISTRY")
        and said[0] in kinds
    )


def named(verb: str) -> list[str]:
    return [
        name
        for names in re.findall(rf"\b{verb} ([a-z -]+?)(?= &&|$)", ORDER, re.M)
        for name in names.split()
    ]


def test_every_process_and_every_job_is_named_once() -> None:
    assert sorted(named("roll")) == of_kind("web")
    assert sorted(named("next")) == of_kind(*BEHIND)
    jobs = re.findall(r"run --rm --no-deps (\S+)", DATABASES + PROXIES)
    waited_for = [name for name in services() if name.endswith(("-prepare", "-config"))]
    assert Counter(jobs) == Counter([*waited_for, "volumes"])


def told(
    tmp_path: Path, line: str, *, old: Sequence[str], health: int = 0
) -> tuple[int, list[str]]:
    """How a line of the page ended, and what it told an engine that has these old containers."""
    program, record = tmp_path / "docker", tmp_path / "record"
    program.write_text(_DOCKER)
    program.chmod(0o755)
    record.touch()
    done = subprocess.run(
        ["/bin/sh", "-c", FUNCTIONS + line],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "RECORD": str(record),
            "OLD": "\\n".join(old) + "\\n",
            "HEALTH": str(health),
        },
        timeout=30,
        check=False,
    )
    return done.returncode, record.read_text().splitlines()


@pytest.mark.parametrize("old", [["a1"], ["a1", "b2", "c3"]], ids=["one", "three"])
def test_as_many_new_ones_are_healthy_before_the_old_ones_go(
    old: Sequence[str], tmp_path: Path
) -> None:
    up = "compose up --detach --no-deps --no-recreate --scale"
    assert told(tmp_path, "roll chat-pro", old=old) == (
        0,
        [
            "compose ps --quiet chat-pro",
            f"{up} chat-pro={2 * len(old)} --wait chat-pro",
            f"stop {' '.join(old)}",
            f"rm {' '.join(old)}",
            f"{up} chat-pro={len(old)} chat-pro",
        ],
    )


def test_a_version_that_does_not_start_stops_nobody_and_nothing_after_it(tmp_path: Path) -> None:
    line = "roll auth && next auth-relay"
    assert line in ORDER
    status, said = told(tmp_path, line, old=["a1"], health=1)
    assert status != 0
    assert [words for words in said if not words.startswith("compose ps")] == [
        "compose up --detach --no-deps --no-recreate --scale auth=2 --wait auth"
    ]


def test_what_is_behind_the_queues_is_started_anew_alone(tmp_path: Path) -> None:
    _, said = told(tmp_path, "next auth-worker auth-beat", old=[])
    assert said == ["compose up --detach --no-deps auth-worker auth-beat"]


def test_who_is_told_what_is_new_goes_before_those_who_tell_it() -> None:
    """Mails before the web process that leaves them, the ledger before the calls, and so on."""
    words = re.findall(r"[a-z-]+", ORDER)
    told_first = ("auth-worker", "billing", "voice-free", "auth", "keyvault", "chat-free")
    places = [words.index(name) for name in told_first]
    assert places == sorted(places)
    assert words.index("auth-beat") < words.index("auth")
