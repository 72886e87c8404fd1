"""The rules that follow a table: `python -m deploy.prometheus.render` writes them anew.

Objectives become burn rates over seven windows and two alerts each; the table of processes becomes
the alert for one that is missing. All other rules are written by hand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.processes import processes
from deploy.prometheus.objectives import DAYS, OBJECTIVES, Objective

FOLDER = Path(__file__).with_name("rules")
# In this repository, wherever it is read.
RUNBOOKS = "docs/runbooks"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

_HEADER = "# Written by `python -m deploy.prometheus.render`, from {source}. Do not edit.\n"
# How fast a budget of thirty days burns, over a long window and a short one that ends the alert
# soon after the trouble: 2 % in an hour, 5 % in six; 10 % in a day or three.
_FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
_SLOW = (("1d", "2h", 3.0), ("3d", "6h", 1.0))

Rule = Mapping[str, Any]


def slo_rules() -> dict[str, Any]:
    """The file of objectives."""
    return {
        "groups": [
            {"name": "objectives", "rules": list(_recorded())},
            {"name": "budgets", "rules": [rule for one in OBJECTIVES for rule in _alerts(one)]},
        ]
    }


def process_rules() -> dict[str, Any]:
    """The file of processes."""
    # Not `absent`: the replica that is there and does not answer is missing, too.
    all_ = " or\n".join(
        f'label_replace(vector(1), "process", "{process.name}", "", "")' for process in processes()
    )
    alert = {
        "alert": "ProcessMissing",
        "expr": f"({all_})\nunless on (process) up == 1\n",
        "for": "3m",
        "labels": {"severity": "page"},
        "annotations": _annotations(
            "ProcessMissing", "No {{ $labels.process }} has answered for three minutes."
        ),
    }
    return {"groups": [{"name": "processes", "rules": [alert]}]}


FILES: Mapping[str, Any] = {
    "objectives.yml": (slo_rules, "deploy/prometheus/objectives.py"),
    "processes.yml": (process_rules, "deploy/k8s/processes.py"),
}


def rendered(name: str) -> str:
    """A file's content."""
    make, source = FILES[name]
    text = yaml.dump(make(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return _HEADER.format(source=source) + str(text)


def _recorded() -> Iterator[Rule]:
    for objective in OBJECTIVES:
        for tier, budget in objective.budget.items():
            yield {
                "record": "companion:slo_budget",
                "labels": {"slo": objective.slo, "tier": tier},
                "expr": f"vector({budget})",
            }
    for objective in OBJECTIVES:
        yield {
            "record": "companion:slo_events:increase1h",
            "labels": {"slo": objective.slo},
            "expr": f"({_over(objective.all_, '1h')}) * 3600",
        }
        for window in WINDOWS:
            all_, bad = _over(objective.all_, window), _over(objective.bad, window)
            yield {
                "record": f"companion:slo_bad:ratio{window}",
                "labels": {"slo": objective.slo},
                "expr": f"({bad}) / (({all_}) > 0)",
            }
    for window in WINDOWS:
        yield {
            "record": f"companion:slo_burn:{window}",
            "expr": f"companion:slo_bad:ratio{window} / on (slo, tier) companion:slo_budget",
        }


def _over(rate: str, window: str) -> str:
    return rate.replace("{window}", window)


def _alerts(objective: Objective) -> Iterator[Rule]:
    for pace, windows, severity, how in (
        ("Fast", _FAST, "page", "would be spent within days"),
        ("Slowly", _SLOW, "ticket", f"will not last for {DAYS} days"),
    ):
        name = f"{objective.alert}BudgetBurns{pace}"
        yield {
            "alert": name,
            "expr": _burning(objective, windows),
            "labels": {"severity": severity},
            "annotations": _annotations(
                name,
                f"The {objective.slo} budget of tier {{{{ $labels.tier }}}} {how} at this rate.",
            ),
        }


def _burning(objective: Objective, windows: tuple[tuple[str, str, float], ...]) -> str:
    name = f'{{slo="{objective.slo}"}}'
    burn = "companion:slo_burn:"
    pairs = " or\n".join(
        f"({burn}{long}{name} > {factor} and {burn}{short}{name} > {factor})"
        for long, short, factor in windows
    )
    enough = f"companion:slo_events:increase1h{name} >= {objective.fewest_an_hour}"
    return f"({pairs}) and on (slo, tier)\n{enough}\n"


def _annotations(alert: str, summary: str) -> dict[str, str]:
    return {"summary": summary, "runbook_url": f"{RUNBOOKS}/{alert}.md"}


class _Dumper(yaml.SafeDumper):
    """Long expressions over several lines, and no references."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def main() -> None:
    """Write the files."""
    for name in FILES:
        (FOLDER / name).write_text(rendered(name), "utf-8")


if __name__ == "__main__":
    main()
