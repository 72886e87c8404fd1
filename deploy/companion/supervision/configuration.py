"""supervisord's configuration file, made from the processes of one run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from deploy.companion.errors import CompanionError
from deploy.companion.programs import Role, Stage
from shared.values import dataclass

# A process that dies sooner than this is started again after a pause that grows with each time.
_UP_AFTER_SECONDS = 5
# 1 + 2 + … + 8 seconds; then supervisord gives up and companion asks again at its own pace.
_RETRIES = 8
SETTINGS_REFUSED = 78
"""The exit code of a process whose settings are missing or wrong (docs/settings.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """One process as supervisord runs it."""

    role: Role
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        return self.role.name

    @property
    def address(self) -> str:
        """How supervisord's interface names it: the group, then the process."""
        return f"{group_of(self.role.stage)}:{self.name}"


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The files of supervisord itself."""

    socket: Path
    pid_file: Path
    log: Path
    directory: Path


def group_of(stage: Stage) -> str:
    """The group of processes that stop at once, also when supervisord stops by itself."""
    return stage.name.lower()


def render(supervisor: Supervisor, programs: Iterable[Program]) -> str:
    """The whole file. Raises CompanionError for a value that the format can't carry."""
    programs = list(programs)
    sections = [_of_supervisor(supervisor), *map(_of_program, programs)]
    for stage in Stage:
        names = [program.name for program in programs if program.role.stage is stage]
        if names:
            options = {"programs": ",".join(names), "priority": str(int(stage))}
            sections.append(_section(f"group:{group_of(stage)}", options))
    return "\n".join(sections)


def _of_supervisor(supervisor: Supervisor) -> str:
    options = {
        "nodaemon": "true",
        "silent": "true",
        "logfile": _literal("log", str(supervisor.log)),
        "logfile_maxbytes": "5MB",
        "logfile_backups": "2",
        "pidfile": _literal("pid file", str(supervisor.pid_file)),
        "directory": _literal("directory", str(supervisor.directory)),
        "nocleanup": "true",
    }
    if os.geteuid() == 0:
        options["user"] = "root"
    factory = "supervisor.rpcinterface:make_main_rpcinterface"
    return "\n".join(
        (
            _section("supervisord", options),
            _section("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": factory}),
            _section(
                "unix_http_server",
                {"file": _literal("socket", str(supervisor.socket)), "chmod": "0600"},
            ),
        )
    )


def _of_program(program: Program) -> str:
    options = {
        "command": _literal(f"command of {program.name}", shlex.join(program.command)),
        "environment": _environment(program),
        "autostart": "false",
        # All are started again but who refuses its settings, which another try would not mend.
        "autorestart": "unexpected",
        "exitcodes": str(SETTINGS_REFUSED),
        "startsecs": str(_UP_AFTER_SECONDS),
        "startretries": str(_RETRIES),
        "stopsignal": program.role.stop_signal,
        "stopwaitsecs": str(program.role.stop_seconds),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": _literal("log", str(program.log)),
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": "3",
    }
    return _section(f"program:{program.name}", options)


def _section(name: str, options: Mapping[str, str]) -> str:
    return "\n".join((f"[{name}]", *(f"{key} = {value}" for key, value in options.items()), ""))


def _environment(program: Program) -> str:
    pairs = (f"{name}={_quoted(name, value)}" for name, value in program.environment.items())
    return ",".join(pairs)


def _quoted(name: str, value: str) -> str:
    # supervisord knows no escape inside quotes, and strips quotes of both kinds from both ends.
    quote = "'" if '"' in value else '"'
    if quote in value or value[:1] in {"'", '"'} or value[-1:] in {"'", '"'}:
        raise _not_representable(name, "quotes")
    return quote + _literal(name, value) + quote


def _literal(what: str, value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise _not_representable(what, "a line break")
    if re.search(r"\s[;#]", value):
        raise _not_representable(what, "a space before ; or #")
    return value.replace("%", "%%")


def _not_representable(what: str, why: str) -> CompanionError:
    return CompanionError(
        f"The value of {what} contains {why}, which can't be handed to a process.",
        "Write it without (in a URL: percent-encode it).",
    )
