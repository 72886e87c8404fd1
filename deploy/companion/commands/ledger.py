"""`companion ledger`: whether billing's ledger still is what was written."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="billing's ledger: verify, status, archive.")
archive = typer.Typer(no_args_is_help=True, help="Partitions that lie in files: list, verify.")
app.add_typer(archive, name="archive")

Partition = Annotated[
    str | None,
    typer.Option("--partition", help="A day (2026-11-24), a month (2026-11) or `corrections`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.callback()
def ledger() -> None:
    """billing's ledger: verify, status, archive."""


@archive.callback()
def archives() -> None:
    """Partitions that lie in files: list, verify."""


@app.command("verify")
def verify(
    partition: Partition = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="An earlier head, DAY=SEQUENCE:LINK, from the log or where you keep it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chains, and compare closed months with the ledger. Exit code 1, and the first record
    that does not fit, when one was changed.

    Without --head it can't be seen whether an end was cut off: keep the heads that it prints.
    """
    from deploy.companion.ledger import verify as walk
    from deploy.companion.ledger import verify_months
    from services.billing.domain.ledger_chain import chain_name

    verdicts = asyncio.run(walk(partition, head or []))
    lines: list[dict[str, Any]] = [
        {
            "partition": chain_name(one.chain),
            "links": one.head.sequence,
            "head": str(one.head),
            "broken": one.broken and one.broken.what,
            "broken_link": one.broken and one.broken.sequence,
            "broken_record": one.broken and one.broken.id and str(one.broken.id),
        }
        for one in verdicts
    ]
    months: list[dict[str, Any]] = [
        {
            "partition": one.period.month.name,
            "entries": one.period.totals.events,
            "digest": one.period.kept_digest,
            "broken": one.broken,
        }
        for one in asyncio.run(verify_months(partition))
    ]
    broken = [line for line in (*lines, *months) if line["broken"]]
    if as_json:
        document = {"whole": not broken, "chains": lines, "closed_months": months}
        typer.echo(json.dumps(document, indent=2))
    else:
        for line in lines:
            typer.echo(f"{line['partition']:12} {line['links']:9} links fit  head {line['head']}")
        for line in months:
            if not line["broken"]:
                typer.echo(f"{line['partition']:12} {line['entries']:9} entries    closed as kept")
        for line in broken:
            typer.echo(f"BROKEN: {line['partition']}: {line['broken']}", err=True)
    if broken:
        raise typer.Exit(1)


@app.command("status")
def status(as_json: AsJson = False) -> None:
    """The end of each chain, and how many records wait for their link."""
    from deploy.companion.ledger import status as read
    from services.billing.domain.ledger_chain import chain_name

    heads, lag = asyncio.run(read())
    if as_json:
        chains = {chain_name(chain): str(head) for chain, head in heads.items()}
        since = lag.since and lag.since.isoformat()
        typer.echo(json.dumps({"chains": chains, "waiting": lag.waiting, "since": since}, indent=2))
        return
    for chain, head in heads.items():
        typer.echo(f"{chain_name(chain):12} head {head}")
    since = f", the oldest since {lag.since:%Y-%m-%d %H:%M:%S} UTC" if lag.since else ""
    typer.echo(f"{lag.waiting} records wait for their link{since}.")


@archive.command("list")
def list_() -> None:
    """Partitions that are in files, or on their way there."""
    from deploy.companion.ledger import archives as read

    found = asyncio.run(read())
    for one in found:
        holds = f"{one.contents.entries} entries, {one.contents.sha256}" if one.contents else ""
        typer.echo(f"{one.partition.name:24} {one.state:9} {holds}")
    if not found:
        typer.echo("Nothing is archived.")


@archive.command("verify")
def verify_archive(
    partition: Annotated[
        str | None, typer.Option("--partition", help="As `list` shows it; default: all.")
    ] = None,
) -> None:
    """Read the files again and compare them with what was archived. Exit code 1 if one differs."""
    from deploy.companion.ledger import verify_archives

    verdicts = asyncio.run(verify_archives(partition))
    for one in verdicts:
        typer.echo(f"{one.archive.partition.name:24} {one.problem or 'is whole'}")
    if any(one.problem for one in verdicts):
        raise typer.Exit(1)
