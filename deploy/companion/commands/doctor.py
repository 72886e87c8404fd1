"""`companion doctor`: what stands in the way of a start or of a quiet night, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.companion.checks import Finding

app = typer.Typer()


@app.command()
def doctor(
    deployment: Annotated[
        bool,
        typer.Option("--deployment", help="The one whose secrets COMPANION_SECRETS names."),
    ] = False,
) -> None:
    """Check this machine and the data directory, and the suite that runs here or in containers.

    Exit code 1: there is a problem. It changes nothing.
    """
    from deploy.companion.tables import findings_table

    findings = _of_deployment() if deployment else _of_this_machine()
    typer.echo(findings_table(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _of_this_machine() -> list[Finding]:
    from deploy.companion.checks import examine
    from deploy.companion.installation import Installation
    from deploy.companion.previous_run import running

    installation = Installation.open()
    data = installation.data
    findings = examine(installation)
    if not data.secrets.exists():
        return findings
    from deploy.companion.care_checks import care

    settings = installation.settings
    findings += care(data.secrets, sandbox=settings.sandbox, data=data, environ=settings.inherited)
    if running(data) is not None:
        from deploy.companion.server_checks import Site, examine_site

        findings += _of_site(lambda: examine_site(Site.embedded(installation)))
    return findings


def _of_site(examine: Callable[[], list[Finding]]) -> list[Finding]:
    """A site that can't even be found is a finding beside the others."""
    from deploy.companion.checks import Finding
    from deploy.companion.errors import CompanionError

    try:
        return examine()
    except CompanionError as error:
        return [Finding("site", "problem", error.message, error.remedy)]


def _of_deployment() -> list[Finding]:
    import os
    from pathlib import Path

    from deploy.companion.backup.estate import SECRETS_VARIABLE
    from deploy.companion.care_checks import care
    from deploy.companion.errors import CompanionError
    from deploy.companion.server_checks import Site, examine_site

    folder = os.environ.get(SECRETS_VARIABLE)
    if not folder:
        raise CompanionError(f"{SECRETS_VARIABLE} is not set.", "It names the folder of secrets.")
    secrets = Path(folder).absolute()
    return [
        *care(secrets, sandbox=False),
        *_of_site(lambda: examine_site(Site.deployment(secrets))),
    ]
