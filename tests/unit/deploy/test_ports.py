"""Ports are chosen once and kept while they are free."""

import json
import socket
import stat
from pathlib import Path

from deploy.companion.ports import (
    CANDIDATES,
    assign_ports,
    free_port,
    holder_of,
    is_free,
    read_ports,
)


def a_listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_port_with_a_listener_is_not_free() -> None:
    with a_listener() as listener:
        assert not is_free(listener.getsockname()[1])


def test_a_listener_on_all_addresses_takes_the_port_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    assert free_port() in CANDIDATES
    assert CANDIDATES.stop <= 32768


def test_each_name_gets_another_port(tmp_path: Path) -> None:
    ports = assign_ports(tmp_path / "ports.json", [f"p{number}" for number in range(30)])
    assert len(set(ports.values())) == 30


def test_a_restart_keeps_the_ports(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    first = assign_ports(book, ["chat", "voice"])
    assert assign_ports(book, ["chat", "voice"]) == first
    assert read_ports(book) == first


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    with a_listener() as listener:
        taken = listener.getsockname()[1]
        book.write_text(json.dumps({"chat": taken, "voice": free_port()}))
        before = read_ports(book)
        after = assign_ports(book, ["chat", "voice"])
    assert after["chat"] != taken
    assert after["voice"] == before["voice"]


def test_the_gateways_port_is_given_to_nobody_else(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    port = free_port()
    book.write_text(json.dumps({"chat": port}))
    assert assign_ports(book, ["chat"], avoid={port})["chat"] != port


def test_a_book_that_was_cut_off_is_no_obstacle(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    book.write_text('{"chat": 2')
    assert set(assign_ports(book, ["chat"])) == {"chat"}


def test_a_process_that_is_not_needed_now_keeps_its_port(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    simulator = assign_ports(book, ["chat", "simulator"])["simulator"]
    assign_ports(book, ["chat"])
    assert read_ports(book)["simulator"] == simulator


def test_the_book_is_private(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    assign_ports(book, ["chat"])
    assert stat.S_IMODE(book.stat().st_mode) == 0o600


def test_the_holder_of_a_port_is_named() -> None:
    with a_listener() as listener:
        holder = holder_of(listener.getsockname()[1])
    assert holder is None or "pid" in holder
