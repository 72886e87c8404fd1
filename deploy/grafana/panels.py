"""The few kinds of panels that our dashboards are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as model

_WIDTH, _HEIGHT = 8, 8
_NUMBER_WIDTH, _NUMBER_HEIGHT = 4, 4
SOURCE = model.DataSourceRef(type_val="prometheus", uid="prometheus")


@dataclass(frozen=True, slots=True)
class Line:
    """A query, and how its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time."""

    title: str
    unit: str
    lines: Sequence[Line]
    description: str = ""
    width: int = _WIDTH

    def build(self) -> timeseries.Panel:
        panel = (
            timeseries.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit(self.unit)
            .min(0)
            .line_width(1)
            .fill_opacity(10)
            .show_points(words.VisibilityMode.NEVER)
            .legend(
                common.VizLegendOptions()
                .display_mode(words.LegendDisplayMode.LIST)
                .placement(words.LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .span(self.width)
            .height(_HEIGHT)
        )
        for number, line in enumerate(self.lines):
            panel = panel.with_target(_query(line, chr(ord("A") + number)))
        return panel


@dataclass(frozen=True, slots=True)
class Number:
    """One number that is green, and red from `bad` on; with `falls` red below it."""

    title: str
    unit: str
    expr: str
    bad: float
    description: str = ""
    falls: bool = False

    def build(self) -> stat.Panel:
        below, above = ("red", "green") if self.falls else ("green", "red")
        steps = [
            model.Threshold(value=None, color=below),
            model.Threshold(value=self.bad, color=above),
        ]
        return (
            stat.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit(self.unit)
            .thresholds(
                dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
            )
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_mode(words.BigValueColorMode.BACKGROUND)
            .graph_mode(words.BigValueGraphMode.NONE)
            .span(_NUMBER_WIDTH)
            .height(_NUMBER_HEIGHT)
            .with_target(_query(Line(self.expr, ""), "A"))
        )


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a headline."""

    title: str
    panels: Sequence[Graph | Number]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    name: str
    title: str
    description: str
    sections: Sequence[Section]

    def build(self) -> model.Dashboard:
        board = (
            dashboard.Dashboard(f"Companion: {self.title}")
            .uid(f"companion-{self.name}")
            .description(self.description)
            .tags(["companion"])
            .readonly()
            .refresh("30s")
            .time("now-3h", "now")
            .timezone("utc")
        )
        for section in self.sections:
            board = board.with_row(dashboard.Row(section.title))
            for panel in section.panels:
                board = board.with_panel(panel.build())
        return board.build()

    @property
    def queries(self) -> list[str]:
        """All that it asks Prometheus."""
        return [query for section in self.sections for query in _asked(section)]


def _asked(section: Section) -> list[str]:
    asked: list[str] = []
    for panel in section.panels:
        asked += [panel.expr] if isinstance(panel, Number) else [line.expr for line in panel.lines]
    return asked


def _query(line: Line, ref_id: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(line.expr).ref_id(ref_id)
    return query.legend_format(line.legend) if line.legend else query
