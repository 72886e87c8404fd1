"""The dashboards: what a panel shows is what is asked, and silence never looks like health."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import Board, Graph, Number, Panel, Table
from deploy.grafana.render import rendered
from deploy.prometheus.render import FOLDER as RULES

_LAST_GROUP = re.compile(r"by \(([\w, ]+)\)")
_SAID = re.compile(r"\$labels\.(\w+)")
_SHOWN = re.compile(r"{{(\w+)}}")
_ONLY_SOME = re.compile(r"> [\d.]+$")


def _panels() -> Iterator[tuple[Board, Panel]]:
    for board in BOARDS:
        for section in board.sections:
            for panel in section.panels:
                yield board, panel


def _as_grafana_reads(board: Board) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(rendered(board))
    return read


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_each_panel_has_a_number_of_its_own(board: Board) -> None:
    panels = _as_grafana_reads(board)["panels"]
    numbers = [panel["id"] for panel in panels]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [panel["title"] for panel in panels if panel.get("options", {}) is None] == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_leads_to_the_others(board: Board) -> None:
    (link,) = _as_grafana_reads(board)["links"]
    assert (link["type"], link["keepTime"]) == ("dashboards", True)
    assert all(set(link["tags"]) <= set(_as_grafana_reads(other)["tags"]) for other in BOARDS)


def test_a_number_is_of_this_moment() -> None:
    """Asked over hours, Grafana shows the last there was: green, long after it fell silent."""
    for board in BOARDS:
        for panel in _as_grafana_reads(board)["panels"]:
            if panel["type"] in {"stat", "table"}:
                (target,) = panel["targets"]
                assert (target["instant"], target["range"]) == (True, False), panel["title"]


def test_a_number_that_is_missing_is_not_green() -> None:
    """What is missing gets the first colour, and all that we count begins at 0."""
    for board in BOARDS:
        for panel in _as_grafana_reads(board)["panels"]:
            if panel["type"] == "stat":
                missing, least, *_ = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
                assert (missing["value"], least["value"]) == (None, 0), panel["title"]
                assert missing["color"] in {"orange", "blue"}, panel["title"]


def test_a_rate_says_that_it_is_one() -> None:
    rates = [panel for _, panel in _panels() if any("rate(" in query for query in panel.queries)]
    assert len(rates) > 15
    assert [panel.title for panel in rates if panel.unit == "short"] == []


def test_the_first_of_its_kind_is_seen() -> None:
    """It makes the series, of which Prometheus sees no increase."""
    counts = [query for board in BOARDS for query in board.queries if "increase(" in query]
    assert len(counts) > 1
    assert [query for query in counts if "unless" not in query] == []


def test_what_is_mostly_not_there_says_so() -> None:
    """A query that leaves out what is well has no answer while all is well."""
    for _, panel in _panels():
        if any(_ONLY_SOME.search(query) for query in panel.queries):
            assert not isinstance(panel, Number), panel.title
            assert panel.empty, panel.title


def test_a_legend_shows_labels_that_are_left() -> None:
    for _, panel in _panels():
        if not isinstance(panel, Graph):
            continue
        for line in panel.lines:
            groups = _LAST_GROUP.findall(line.expr)
            if groups:
                left = {label.strip() for group in groups for label in group.split(",")}
                assert set(_SHOWN.findall(line.legend)) <= left, panel.title


def test_an_alert_that_fires_is_shown_with_all_that_it_says() -> None:
    (table,) = [panel for _, panel in _panels() if isinstance(panel, Table)]
    told = set(re.findall(r'"(\w+)"', table.expr))
    said = {
        label
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
        for label in _SAID.findall(rule["annotations"]["summary"])
    }
    assert len(said) > 10
    assert said <= told, said - told
