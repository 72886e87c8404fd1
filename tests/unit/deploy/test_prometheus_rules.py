"""The rules of Prometheus: valid, tested alert by alert, each with its runbook, on metrics that
exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Context
from typer.main import get_command

from deploy.companion.cli import app
from deploy.grafana.boards import BOARDS
from deploy.grafana.render import FOLDER as DASHBOARDS
from deploy.grafana.render import rendered as rendered_board
from deploy.k8s.processes import processes
from deploy.prometheus.objectives import OBJECTIVES
from deploy.prometheus.render import FILES, rendered

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
CONFIG = ROOT / "deploy" / "compose" / "prometheus.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
METRICS = ROOT / "docs" / "metrics.md"

Rule = Mapping[str, Any]

_COMPANION = re.compile(r"`companion ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)")

promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    promtool is None and not os.environ.get("CI"),
    reason="promtool is not installed; on Debian: apt-get install prometheus",
)


def _promtool(*arguments: object) -> str:
    assert promtool is not None, "promtool is missing: apt-get install prometheus"
    done = subprocess.run(
        [promtool, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def _rules() -> Iterator[Rule]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from group["rules"]


def _alerts() -> dict[str, Rule]:
    return {rule["alert"]: rule for rule in _rules() if "alert" in rule}


@needs_promtool
def test_the_rules_are_valid() -> None:
    _promtool("check", "rules", *RULES)


@needs_promtool
def test_the_config_is_valid() -> None:
    # Its rules lie elsewhere in the container.
    _promtool("check", "config", "--syntax-only", CONFIG)


@pytest.fixture(scope="module")
def tested() -> Iterator[Mapping[Path, subprocess.Popen[str]]]:
    """All files at once: each test in them makes a database of its own, which takes its time."""
    assert promtool is not None, "promtool is missing: apt-get install prometheus"
    runs = {
        path: subprocess.Popen(
            [promtool, "test", "rules", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for path in TESTS
    }
    yield runs
    for run in runs.values():
        run.kill()
        run.communicate()


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_rest(path: Path, tested: Mapping[Path, subprocess.Popen[str]]) -> None:
    said, _ = tested[path].communicate(timeout=120)
    assert tested[path].returncode == 0, said


def test_each_alert_is_seen_firing_and_resting() -> None:
    fires: dict[str, set[bool]] = {}
    for path in TESTS:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for seen in test.get("alert_rule_test", ()):
                fires.setdefault(seen["alertname"], set()).add(bool(seen["exp_alerts"]))
    assert fires == {name: {True, False} for name in _alerts()}


def test_each_alert_says_how_urgent_it_is_and_what_to_read() -> None:
    for name, alert in _alerts().items():
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert alert["annotations"]["summary"].endswith("."), name
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(_alerts())


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_answers_what_is_asked_at_night(path: Path) -> None:
    text = path.read_text("utf-8")
    severity = _alerts()[path.stem]["labels"]["severity"]
    assert f"Severity: **{severity}**" in text
    headlines = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headlines == [
        "What it means",
        "What users see",
        "What to look at",
        "What to do",
        "When to escalate",
    ]
    for target in re.findall(r"\]\((\w+\.md)\)", text):
        assert (RUNBOOKS / target).is_file(), target


def test_runbooks_name_commands_that_there_are() -> None:
    root = get_command(app)
    for path in RUNBOOKS.glob("*.md"):
        for words in _COMPANION.findall(path.read_text("utf-8")):
            assert _exists(root, words.split()), (path.stem, words)


def _exists(command: Any, words: Sequence[str]) -> bool:
    """Whether the words lead to a command; what follows it are its arguments."""
    if not hasattr(command, "list_commands"):
        return True
    below = command.get_command(Context(command), words[0]) if words else None
    return below is not None and _exists(below, words[1:])


@pytest.mark.parametrize("name", FILES)
def test_rules_from_tables_are_current(name: str) -> None:
    written = (FOLDER / "rules" / name).read_text("utf-8")
    assert written == rendered(name), "run python -m deploy.prometheus.render"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_dashboards_are_current(board: Any) -> None:
    written = (DASHBOARDS / f"{board.name}.json").read_text("utf-8")
    assert written == rendered_board(board), "run python -m deploy.grafana.render"


@needs_promtool
def test_dashboards_ask_what_prometheus_understands(tmp_path: Path) -> None:
    queries = [query for board in BOARDS for query in board.queries]
    rules = [{"record": f"asked:{number}", "expr": expr} for number, expr in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(queries)} rules found" in _promtool("check", "rules", path)


# A word is a metric when it is neither a function, a label nor a value; all ours have prefixes.
_METRIC = re.compile(
    r"\b((?:companion|envoy|rabbitmq|process|asked)_\w+|companion:\w+(?::\w+)*|up|ALERTS)\b"
)
_STRINGS = re.compile(r'"[^"]*"')
_LABELS = re.compile(r"(?:by|on|without|ignoring)\s*\([^)]*\)|(\w+)\s*(=~|!~|!=|=)\s*S")


def _metrics_in(expr: str) -> set[str]:
    code = re.sub(r"#.*", "", expr)
    return set(_METRIC.findall(_LABELS.sub("", _STRINGS.sub("S", code))))


def _known_metrics() -> set[str]:
    documented = re.findall(r"^\| (`[^|]+) \| (\w+)", METRICS.read_text("utf-8"), re.MULTILINE)
    known = {"up", "ALERTS"}
    for names, type_ in documented:
        for name in re.findall(r"`(\w+)`", names):
            known.add(name)
            if type_ == "histogram":
                known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return known | {rule["record"] for rule in _rules() if "record" in rule}


def test_rules_and_dashboards_use_metrics_that_exist() -> None:
    known = _known_metrics()
    exprs = [rule["expr"] for rule in _rules()] + [q for board in BOARDS for q in board.queries]
    used = {metric for expr in exprs for metric in _metrics_in(expr)}
    assert len(used) > 60
    assert used <= known, used - known


def test_every_process_is_missed() -> None:
    expr = _alerts()["ProcessMissing"]["expr"]
    assert set(re.findall(r'"process", "([\w-]+)"', expr)) == {one.name for one in processes()}


def test_prometheus_asks_every_process() -> None:
    scraped = yaml.safe_load(CONFIG.read_text("utf-8"))["scrape_configs"]
    names = {name for job in scraped for sd in job["dns_sd_configs"] for name in sd["names"]}
    assert {one.name for one in processes()} <= names


def test_each_objective_has_a_line_in_the_docs() -> None:
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    for objective in OBJECTIVES:
        line = next(line for line in page.splitlines() if line.startswith(f"| {objective.slo} "))
        assert objective.promise in line
        for tier, budget in objective.budget.items():
            assert f"{tier} {(1 - budget) * 100:.4g} %" in line, (objective.slo, tier)
