"""`companion ledger`: whether billing's ledger still is what was written."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from services.billing.actions.verify_ledger import ChainVerdict
    from services.billing.actions.verify_periods import PeriodVerdict

app = typer.Typer(no_args_is_help=True, help="billing's ledger: verify, status, archive.")
archive = typer.Typer(no_args_is_help=True, help="Partitions that lie in files: list, verify.")
app.add_typer(archive, name="archive")

Partition = Annotated[
    str | None,
    typer.Option("--partition", help="A day (2026-11-24), a month (2026-11) or `corrections`."),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        help="An earlier head, DAY=SEQUENCE:LINK, from the log or where you keep it; repeatable.",
    ),
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
    head: Heads = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chains, and compare closed months with the ledger. Exit code 1, and the first record
    that does not fit, when one was changed.

    Without --head it can't be seen whether an end was cut off: keep the heads that it prints. Of a
    day that has left for a file, the file is read.
    """
    from deploy.companion.ledger import verify as walk
    from deploy.companion.ledger import verify_months

    chains = [_chain(one) for one in asyncio.run(walk(partition, head or []))]
    months = [_month(one) for one in asyncio.run(verify_months(partition))]
    broken = [line for line in (*chains, *months) if line["broken"]]
    if as_json:
        document = {"whole": not broken, "chains": chains, "closed_months": months}
        typer.echo(json.dumps(document, indent=2))
    else:
        for line in chains:
            typer.echo(f"{line['partition']:12} {line['links']:9} links fit  head {line['head']}")
        if partition and not chains and not months:
            typer.echo(f"Nothing of {partition} is in the ledger: unused, or left for a file.")
        for line in months:
            if not line["broken"]:
                typer.echo(f"{line['partition']:12} {line['entries']:9} entries    closed as kept")
        for line in broken:
            typer.echo(f"BROKEN: {line['partition']}: {line['broken']}", err=True)
    if broken:
        raise typer.Exit(1)


def _chain(verdict: ChainVerdict) -> dict[str, Any]:
    from services.billing.domain.ledger_chain import chain_name

    broken = verdict.broken
    return {
        "partition": chain_name(verdict.chain),
        "links": verdict.head.sequence,
        "head": str(verdict.head),
        "broken": broken and broken.what,
        "broken_link": broken and broken.sequence,
        "broken_record": broken and broken.id and str(broken.id),
    }


def _month(verdict: PeriodVerdict) -> dict[str, Any]:
    return {
        "partition": verdict.period.month.name,
        "entries": verdict.period.totals.events,
        "digest": verdict.period.kept_digest,
        "broken": verdict.broken,
    }


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
        str | None,
        typer.Option("--partition", help="A day, a month, or as `list` shows it; default: all."),
    ] = None,
    head: Heads = None,
) -> None:
    """Read the files again and compare them with what was archived, and with heads that you keep.
    Exit code 1 if one differs, or none is of that name."""
    from deploy.companion.ledger import verify_archives

    verdicts = asyncio.run(verify_archives(partition, head or []))
    for one in verdicts:
        typer.echo(f"{one.archive.partition.name:24} {one.problem or 'is whole'}")
    if any(one.problem for one in verdicts):
        raise typer.Exit(1)
