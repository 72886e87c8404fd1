"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from deploy.companion.checks import Finding
from deploy.companion.console import Console
from deploy.companion.running import ProcessStatus, Running


def status_table(running: Running, rows: Sequence[ProcessStatus]) -> str:
    """One line for each process."""
    console = Console()
    lines = [f"Companion at {running.url}, pid {running.pid}", ""]
    lines.append(f"{'process':<17}{'state':<10}{'pid':>8}{'port':>7}{'uptime':>12}  readiness")
    for row in rows:
        port = str(row.port) if row.port else "-"
        uptime = str(timedelta(seconds=int(row.uptime_seconds))) if row.pid else "-"
        ready = console.mark("ready" if row.ready else "not ready")
        lines.append(
            f"{row.name:<17}{row.state:<10}{row.pid or '-':>8}{port:>7}{uptime:>12}  {ready}"
        )
    return "\n".join(lines)


def findings_table(findings: Sequence[Finding]) -> str:
    """One line for each finding, and one below for what to do."""
    console = Console()
    lines = []
    for finding in findings:
        pad = " " * (8 - len(finding.level))
        lines.append(f"{console.mark(finding.level)}{pad} {finding.subject:<17} {finding.text}")
        if finding.remedy:
            lines.append(f"{'':27}→ {finding.remedy}")
    return "\n".join(lines)
