"""Valkey as an embedded engine: cache on database 0 and, unless there is another, broker on 1."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from deploy.companion.data_dir import replace_private
from deploy.companion.engines.binaries import valkey_program
from deploy.companion.ports import LOOPBACK
from shared.values import dataclass

REWRITES = {"auto-aof-rewrite-min-size": "1mb", "auto-aof-rewrite-percentage": "300"}
"""When the log of writes is made anew: once it has grown to four times its size, and has a
mebibyte. Everybody waits for a processor while that is done. Every Valkey of the suite says the
same, in containers too."""


@dataclass(frozen=True, slots=True)
class Valkey:
    """One server: where it keeps its log of writes, its configuration, port and password."""

    data: Path
    configuration: Path
    port: int
    password: str = field(repr=False)
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    def url(self, database: int = 0) -> str:
        """The server's address with one of its numbered databases."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def command(self) -> list[str]:
        """The server's command line; the password stands in the configuration file."""
        return [str(valkey_program()), str(self.configuration)]

    def prepare(self) -> None:
        """Write the configuration, readable by this user alone."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "dir": f'"{self.data}"',
            "daemonize": "no",
            "logfile": '""',
            # Queues live here too: at most a second of writes is lost when the machine fails.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # What has expired goes from the disk when the log of writes is made anew: texts of
            # answers are in it that are gone from memory within the hour.
            **REWRITES,
            # A full server says so; it never throws away a queue or a limit.
            "maxmemory": "1gb",
            "maxmemory-policy": "noeviction",
            # Its own rounds: less often while there is little to do, more often by itself when
            # clients come. Keys are gone on time in any case.
            "hz": "1",
            "dynamic-hz": "yes",
            **self.extra_settings,
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        replace_private(self.configuration, text)

    def is_ready(self) -> bool:
        """Whether the server answers now; while it loads its data it does not."""
        question = f"AUTH {self.password}\r\nPING\r\n".encode()
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(question)
                answer = b""
                while answer.count(b"\n") < 2 and (part := connection.recv(256)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"
