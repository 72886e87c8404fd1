"""What we write is what supervisord reads: each value comes back from its own parser."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from supervisor.datatypes import RestartWhenExitUnexpected
from supervisor.options import ServerOptions

from deploy.companion.errors import CompanionError
from deploy.companion.programs import Role
from deploy.companion.supervision.configuration import SETTINGS_REFUSED, Program, Supervisor, render
from shared.settings.refused import EXIT_CODE
from tests.support.core_dumps import least_core_limit


def a_program(
    name: str = "chat",
    *,
    command: Sequence[str] = ("/bin/true",),
    environment: Mapping[str, str] | None = None,
    folder: Path = Path("/tmp"),
) -> Program:
    return Program(Role.of(name), command, folder / f"{name}.log", environment or {})


def a_supervisor(folder: Path) -> Supervisor:
    return Supervisor(folder / "s.sock", folder / "s.pid", folder / "s.log", folder)


def as_read(folder: Path, *programs: Program) -> dict[str, Any]:
    """The processes as supervisord's own parser understands them, by `group:name`."""
    file = folder / "supervisord.conf"
    file.write_text(render(a_supervisor(folder), programs))
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return {
        f"{group.name}:{process.name}": process
        for group in options.process_group_configs
        for process in group.process_configs
    }


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "100%",
        "%(ENV_HOME)s",
        "%%",
        "postgresql://a:p%40ss,w=rd@127.0.0.1:5432",
        "two words",
        "it's",
        'say "hi" twice',
        "a;b#c",
        "back\\slash\\n",
        "https://ö.example,chrome-extension://abc",
        "$HOME `id` $(id)",
        " edges ",
    ],
)
def test_a_variable_arrives_unchanged(tmp_path: Path, value: str) -> None:
    environment = {"BEFORE": "1", "VALUE": value, "AFTER": "2"}
    process = as_read(tmp_path, a_program(environment=environment, folder=tmp_path))
    assert process["services:chat"].environment == environment


@pytest.mark.parametrize(
    "value", ["line\nbreak", "a ;b", "a\t#b", "\"both' kinds", "'edge", 'edge"']
)
def test_a_variable_that_would_be_damaged_is_refused(value: str) -> None:
    with pytest.raises(CompanionError, match="value of SECRET") as caught:
        render(a_supervisor(Path("/tmp")), [a_program(environment={"SECRET": value})])
    assert value not in str(caught.value)


@pytest.mark.parametrize("word", ["50%", "a b", "it's", "--hostname=auth@%h", "x;y", "ü"])
def test_a_word_of_a_command_arrives_unchanged(tmp_path: Path, word: str) -> None:
    import shlex

    process = as_read(tmp_path, a_program(command=["/bin/echo", word], folder=tmp_path))
    assert shlex.split(process["services:chat"].command) == ["/bin/echo", word]


def test_nothing_starts_before_it_is_asked_to(tmp_path: Path) -> None:
    processes = as_read(
        tmp_path, a_program("postgres", folder=tmp_path), a_program(folder=tmp_path)
    )
    assert not any(process.autostart for process in processes.values())


def test_stages_are_groups_that_stop_in_reverse(tmp_path: Path) -> None:
    names = ("gateway", "chat", "relay", "postgres", "simulator", "chat-worker")
    file = tmp_path / "supervisord.conf"
    programs = [a_program(name, folder=tmp_path) for name in names]
    file.write_text(render(a_supervisor(tmp_path), programs))
    options = ServerOptions()
    options.realize(["-c", str(file)])
    groups = [
        (group.name, {process.name for process in group.process_configs})
        for group in sorted(options.process_group_configs, key=lambda group: group.priority)
    ]
    assert groups == [
        ("engines", {"postgres"}),
        ("services", {"chat", "relay", "chat-worker"}),
        ("simulator", {"simulator"}),
        ("edge", {"gateway"}),
    ]


def test_postgres_is_asked_not_to_wait_for_its_clients(tmp_path: Path) -> None:
    import signal

    processes = as_read(
        tmp_path, a_program("postgres", folder=tmp_path), a_program(folder=tmp_path)
    )
    assert processes["engines:postgres"].stopsignal == signal.SIGINT
    assert processes["services:chat"].stopsignal == signal.SIGTERM


def test_nothing_that_it_starts_leaves_a_core_dump(tmp_path: Path) -> None:
    file = tmp_path / "supervisord.conf"
    file.write_text(render(a_supervisor(tmp_path), [a_program()]))
    # In place of supervisord, which hands it on to all that it starts.
    program = """
import resource, sys
from deploy.companion.supervision import daemon
daemon.supervisord.go = lambda _: sys.exit(print(resource.getrlimit(resource.RLIMIT_CORE)))
daemon.main()
"""
    words = [sys.executable, "-c", program, str(os.getpid()), "-c", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    least = least_core_limit()
    assert done.stdout.strip() == f"({least}, {least})"


def test_only_who_refuses_its_settings_is_not_started_again(tmp_path: Path) -> None:
    process = as_read(tmp_path, a_program())["services:chat"]
    assert SETTINGS_REFUSED == EXIT_CODE
    assert process.exitcodes == [EXIT_CODE]
    assert process.autorestart is RestartWhenExitUnexpected
