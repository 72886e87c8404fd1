"""`companion`: one command line for the embedded default and for those who operate it.

Each command is a module of `deploy/companion/commands/` that holds a Typer app; it is imported when
it is called, so that none pays for another's imports.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from deploy.companion.errors import CompanionError
from shared.values import dataclass

COMMANDS = (
    "up",
    "down",
    "status",
    "restart",
    "doctor",
    "env",
    "migrate",
    "backup",
    "demo",
    "keyring",
    "keyvault",
    "events",
    "ledger",
    "reporting",
    "admin",
    "auth",
    "identities",
    "secrets",
    "passwords",
    "deployment",
)
"""In the order of `companion --help`. One whose module is not there is not shown."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a command lives."""

    name: str

    @property
    def module(self) -> str:
        return f"deploy.companion.commands.{self.name}"

    @property
    def exists(self) -> bool:
        return find_spec(self.module) is not None


class _Commands(TyperGroup):
    """Finds a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class's shape
        return [name for name in COMMANDS if _Place(name).exists]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        place = _Place(cmd_name)
        if cmd_name not in COMMANDS or not place.exists:
            return None
        command = get_command(import_module(place.module).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Runs and operates ToolTip Companion.",
)


@app.callback()
def companion() -> None:
    """Runs and operates ToolTip Companion."""


def main() -> None:
    """The entry point. A failure that has a sentence is told by that sentence alone."""
    try:
        app()
    except CompanionError as error:
        print(f"companion: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        sys.exit(1)
