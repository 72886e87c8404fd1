"""Celery's `worker` and `beat`, as `celery` itself runs them: `python -m
shared.messaging.celery_command -A services.chat.worker:app worker --pool prefork`.

`celery` imports all its commands first, among them a shell with an editor of lines: a tenth of what
a worker's start costs, and memory that it then keeps.
"""

from __future__ import annotations

import argparse
import gc
from importlib import import_module

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext


def main() -> None:
    """Parse the command line and become the process."""
    parser = argparse.ArgumentParser(prog="python -m shared.messaging.celery_command")
    parser.add_argument("-A", "--app", required=True, help="as in services.chat.worker:app")
    parser.add_argument("command", choices=("worker", "beat"))
    parser.add_argument("words", nargs=argparse.REMAINDER, help="what Celery's command is told")
    given = parser.parse_args()
    # What is imported stays: to look through it again and again is a tenth of the time.
    gc.disable()
    app = find_app(given.app)
    command: click.Command = getattr(import_module(f"celery.bin.{given.command}"), given.command)
    gc.enable()
    command.main(
        args=given.words,
        prog_name=f"celery {given.command}",
        obj=CLIContext(app=app, no_color=True, workdir=None),
        auto_envvar_prefix=f"CELERY_{given.command.upper()}",
    )


if __name__ == "__main__":
    main()
