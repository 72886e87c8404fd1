"""Ports on the loopback interface: chosen once, kept over restarts."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.companion.data_dir import read_json, replace_private
from deploy.companion.errors import CompanionError

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a remembered
# port inside that range is now and then held by somebody's connection when it is needed again.
CANDIDATES = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    return why_not_free(port) is None


def why_not_free(port: int) -> OSError | None:
    """What the system answers to a server that wants this port; None is a yes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of a server that has just stopped linger; they don't hinder a new one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error
        return None


def free_port(*, avoid: Collection[int] = ()) -> int:
    """A port that nobody listens on. Raises CompanionError when there is none."""
    # No secret: it only spreads choices, so that two checkouts rarely want the same port.
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        if port not in avoid and is_free(port):
            return port
    raise CompanionError("Every port from 20000 to 31999 is taken.", "Stop what holds them.")


def assign_ports(
    book: Path, names: Iterable[str], *, avoid: Collection[int] = ()
) -> dict[str, int]:
    """A free port for each name: the one remembered in `book` if it is still free, else a new one.

    Call it only while nothing of ours runs: a port of ours that is in use counts as taken.
    """
    remembered = read_ports(book)
    ports: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        taken = {*avoid, *ports.values()}
        if port is None or port in taken or not is_free(port):
            port = free_port(avoid=taken | set(remembered.values()))
        ports[name] = port
    replace_private(book, json.dumps({**remembered, **ports}, indent=2) + "\n")
    return ports


def read_ports(book: Path) -> dict[str, int]:
    """What was assigned before; empty when there is no book or it can't be read."""
    entries = read_json(book)
    if not isinstance(entries, dict):
        return {}
    return {str(name): port for name, port in entries.items() if isinstance(port, int)}


def listens_itself(pid: int, port: int) -> bool:
    """Whether this process, or one below it, listens on the port; yes where nobody may know."""
    import psutil

    try:
        process = psutil.Process(pid)
        return any(_listens(one, port) for one in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's, and no right to look
        return True


def _listens(process: psutil.Process, port: int) -> bool:
    import psutil

    return any(
        found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,)
        for found in process.net_connections(kind="tcp")
    )


def holder_of(port: int) -> str | None:
    """Who listens on a port, as far as this user may know: `name (pid 123)`."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # macOS shows connections to root only.
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or connection.laddr[1:] != (port,):
            continue
        if connection.pid is None:
            return "a process of another user"
        try:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.Error:
            return f"pid {connection.pid}"
    return None
