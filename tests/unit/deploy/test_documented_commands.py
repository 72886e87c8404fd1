"""A command that a page tells an operator to give is one that `companion` takes, as it is written.

Placeholders are in capitals, or `…`. A page that mentions a command by its name alone need not say
what it is given, unless it is a page of steps, which people follow at night.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.companion.cli import app
from deploy.companion.settings import ROOT
from services.billing.api.admin import NewPrice, ProducerBody, ReconciliationBody

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("services/*/README.md")])
PAGES.append(ROOT / "README.md")
OF_STEPS = {ROOT / "docs" / "rotation.md", *(ROOT / "docs" / "runbooks").glob("*.md")}

_BLOCK = re.compile(r"^```.*?^```|(?:(?<=\n\n)|\A)(?:    .*\n)+", re.M | re.S)
_QUOTED = re.compile(r"`companion ([^`]+)`")
_IN_BLOCK = re.compile(r"(?:^|&&|\|\||;|[$(] ?)\s*companion ((?:\\\n|[^\n;|&#)])*)", re.M)


@dataclass(frozen=True, slots=True)
class Said:
    """A command as a page has it: is it a step, or may it be no more than a name?"""

    text: str
    is_step: bool


def commands_of(page: Path, text: str) -> Iterator[Said]:
    for block in _BLOCK.findall(text):
        yield from (Said(said, True) for said in _IN_BLOCK.findall(block))
    for said in _QUOTED.findall(_BLOCK.sub("", text)):
        yield Said(said, page in OF_STEPS)


def trouble_with(said: Said) -> str:
    """What `companion` says to it, without doing it; empty for what it takes."""
    words = shlex.split(re.sub(r"<[^>]*>", "…", said.text.replace("\\\n", " ")))
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "get_command"):
        if words[0] == "…" or words[0].startswith("-"):
            return ""
        found = command.get_command(None, words[0])
        if found is None:
            return f"there is no {words[0]}"
        command, words = found, words[1:]
    if hasattr(command, "get_command") or words == ["--help"]:
        return ""
    if not said.is_step and all(word.startswith("-") or word == "…" for word in words):
        # No more than a name, with options that the page is about.
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        return ", ".join(word for word in words if word.startswith("-") and word not in known)
    context = command.context_class(command)
    try:
        given, left, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:
        return str(error) or type(error).__name__
    return "; ".join([*(f"{one} too many" for one in left), *_missing(command, given)])


def _missing(command: Any, given: dict[str, Any]) -> Iterator[str]:
    """Parameters that are missing, but for what a person is asked for."""
    for parameter in command.params:
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
        is_asked_for = getattr(parameter, "prompt", None)
        if parameter.required and not is_asked_for and given.get(parameter.name) in (None, ()):
            yield f"{name} is missing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_command_of_a_page_is_taken_as_it_is_written(page: Path) -> None:
    said = commands_of(page, page.read_text("utf-8"))
    assert [(one.text, trouble) for one in said if (trouble := trouble_with(one))] == []


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("keyvault stop SERVICE", "--reason"),
        ("keyvault stop SERVICE --reason WHY", ""),
        ("keyring retire", "VERSION"),
        ("keyring retire VERSION", ""),
        ("reporting create NAME", "--password-file"),
        ("events list SERVICE ID more", "more"),
        ("events list --everything", "--everything"),
        ("keyring retyre 1", "retyre"),
    ],
)
def test_what_is_missing_or_unknown_is_found(text: str, trouble: str) -> None:
    found = trouble_with(Said(text, is_step=True))
    assert trouble.lower() in found.lower() and bool(found) == bool(trouble)


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    text = (
        "Say `companion status`, then\n\n"
        "```sh\ncompanion keyring rewrap && companion keyring retire 1  # closed\n```\n\n"
        "or:\n\n    companion auth clients add --name A \\\n      --redirect-uri URI\n"
    )
    found = [one.text.split()[0] for one in commands_of(PAGES[0], text)]
    assert found == ["keyring", "keyring", "auth", "status"]
    assert all(trouble_with(one) == "" for one in commands_of(PAGES[0], text))


def test_fields_of_an_answer_that_a_page_names_are_in_it() -> None:
    known = ReconciliationBody.model_fields.keys() | ProducerBody.model_fields.keys()
    named = re.compile(r"`GET /billing/admin/reconciliation`, `(\w+)`")
    told = {(page.name, field) for page in PAGES for field in named.findall(page.read_text())}
    assert {"UsageHeld.md", "RollupsDrifted.md"} <= {page for page, _ in told}
    assert {(page, field) for page, field in told if field not in known} == set()


def test_prices_for_what_waits_name_a_moment_before_it() -> None:
    """A price without one holds from now on, and what is older goes on waiting."""
    body = re.compile(r"^ *POST /billing/admin/prices\n *(\{.*\})$", re.M)
    for page in PAGES:
        prices = [
            NewPrice.model_validate_json(one) for one in body.findall(page.read_text("utf-8"))
        ]
        if page.name in ("UsageUnpriced.md", "usage-events.md"):
            assert [price.effective_from is not None for price in prices] == [True], page.name
