"""The Procfile is a table that people read, and companion reads it as they do."""

import sys

import pytest

from deploy.companion.errors import CompanionError
from deploy.companion.procfile import expand, parse_procfile, read_procfile
from deploy.companion.programs import SERVICES, Kind, Role, Stage
from deploy.companion.settings import ROOT


def test_lines_keep_their_order() -> None:
    commands = parse_procfile("# engines\nvalkey: a --b 'c d'\n\n  web-1: x: y\n")
    assert list(commands.items()) == [("valkey", "a --b 'c d'"), ("web-1", "x: y")]


@pytest.mark.parametrize("line", ["no colon", ": no name", "name:", "-x: y", "two words: y"])
def test_a_line_of_another_form_is_named(line: str) -> None:
    with pytest.raises(CompanionError, match="Procfile:2 "):
        parse_procfile(f"chat: x\n{line}\n")


def test_a_name_stands_once() -> None:
    with pytest.raises(CompanionError, match="Procfile:3 names chat"):
        parse_procfile("chat: x\nvoice: y\nchat: z\n")


def test_variables_are_filled_in_without_a_shell() -> None:
    words = expand("x", "run --at=${HOST}:$PORT '$NAME'", {"HOST": "h", "PORT": "1", "NAME": "a b"})
    assert words == ["run", "--at=h:1", "a b"]


def test_a_value_is_never_split_or_expanded_again() -> None:
    assert expand("x", "run $A", {"A": "b; rm -rf $HOME `c`"}) == ["run", "b; rm -rf $HOME `c`"]


def test_a_list_becomes_words_or_nothing() -> None:
    assert expand("x", "$PREFIX run", {"PREFIX": ["setpriv", "--x"]}) == ["setpriv", "--x", "run"]
    assert expand("x", "$PREFIX run", {"PREFIX": []}) == ["run"]


def test_a_list_inside_a_word_is_refused() -> None:
    with pytest.raises(CompanionError, match="must stand alone"):
        expand("x", "a$PREFIX", {"PREFIX": ["b"]})


def test_an_unknown_variable_is_named() -> None:
    with pytest.raises(CompanionError, match=r"command of chat uses \$PROT"):
        expand("chat", "run $PROT", {"PORT": "1"})


def test_an_open_quote_is_told() -> None:
    with pytest.raises(CompanionError, match="command of chat can't be read"):
        expand("chat", "run 'x", {})


def test_python_is_the_one_that_runs_us() -> None:
    assert expand("x", "python -m y", {}) == [sys.executable, "-m", "y"]


def test_other_percent_signs_and_dollars_stay() -> None:
    assert expand("x", "celery --hostname auth@%h", {})[-1] == "auth@%h"


def test_the_procfile_holds_every_process() -> None:
    roles = [Role.of(name) for name in read_procfile(ROOT / "Procfile")]
    assert {role.name for role in roles if role.kind is Kind.WEB} == set(SERVICES)
    assert {role.service for role in roles if role.kind is Kind.WORKER} == set(SERVICES)
    assert {role.name for role in roles if role.stage is Stage.ENGINES} == {"postgres", "valkey"}
    assert {role.name for role in roles if role.stage is Stage.EDGE} == {"egress", "gateway"}
    assert not [role for role in roles if role.kind is Kind.OTHER]


def test_the_relay_of_the_procfile_serves_every_service() -> None:
    relay = read_procfile(ROOT / "Procfile")["relay"].split()
    assert set(SERVICES) <= set(relay)
