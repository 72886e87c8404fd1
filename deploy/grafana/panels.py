"""The few kinds of panels that our dashboards are made of."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as asked

from shared.values import dataclass

_WIDTH, _HEIGHT = 8, 8
_FULL_WIDTH = 24
_NUMBER_WIDTH, _NUMBER_HEIGHT = 4, 4
_TAG = "companion"
A_SECOND = "suffix:/s"
"""Of rates that are no requests (`reqps`)."""
CORES, PER_CENT = "suffix:cores", "suffix:%"
"""Of what may be more than all: Grafana cuts `percentunit` off at 100 %."""

SOURCE = model.DataSourceRef(type_val="prometheus", uid="prometheus")


@dataclass(frozen=True, slots=True)
class Line:
    """A query, and how its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time; `empty` stands there while there is none, and that is no fault. Of `many`
    lines the names stand beside them, with their values, and the largest first."""

    title: str
    unit: str
    lines: Sequence[Line]
    description: str = ""
    width: int = _WIDTH
    empty: str = ""
    many: bool = False

    @property
    def queries(self) -> list[str]:
        return [line.expr for line in self.lines]

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
            .legend(_beside() if self.many else _below())
            .tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI))
            .span(self.width)
            .height(_HEIGHT)
        )
        if self.empty:
            panel = panel.no_value(self.empty)
        for number, line in enumerate(self.lines):
            panel = panel.with_target(_query(line, chr(ord("A") + number)))
        return panel


@dataclass(frozen=True, slots=True)
class Number:
    """One number that is green, and red from `bad` on; without `bad` it only tells. While there is
    none it is orange: it is not known whether all is well. With `empty`, which stands there
    instead, that is no fault. No number may be below 0."""

    title: str
    unit: str
    expr: str
    bad: float | None = None
    description: str = ""
    empty: str = ""

    @property
    def queries(self) -> list[str]:
        return [self.expr]

    def build(self) -> stat.Panel:
        # A value that is missing counts as less than all others.
        steps = [
            model.Threshold(value=None, color="blue" if self.empty else "orange"),
            model.Threshold(value=0, color="blue" if self.bad is None else "green"),
        ]
        if self.bad is not None:
            steps.append(model.Threshold(value=self.bad, color="red"))
        panel = (
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
            # Of this moment: what tells nothing any more must not look as it did an hour ago.
            .with_target(_query(Line(self.expr, ""), "A").instant())
        )
        return panel.no_value(self.empty) if self.empty else panel


@dataclass(frozen=True, slots=True)
class Table:
    """What is there now, a row for each; the columns are labels, in this order, then the value."""

    title: str
    unit: str
    expr: str
    columns: Sequence[str]
    value: str
    description: str = ""
    empty: str = ""

    @property
    def queries(self) -> list[str]:
        return [self.expr]

    def build(self) -> table.Panel:
        order = {name: place for place, name in enumerate([*self.columns, "Value"])}
        arranged = {
            "excludeByName": {"Time": True},
            "indexByName": order,
            "renameByName": {"Value": self.value},
        }
        query = _query(Line(self.expr, ""), "A").instant().format(asked.PromQueryFormat.TABLE)
        return (
            table.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit(self.unit)
            .no_value(self.empty)
            .show_header(True)
            .with_transformation(model.DataTransformerConfig(id_val="organize", options=arranged))
            .span(_FULL_WIDTH)
            .height(_HEIGHT)
            .with_target(query)
        )


Panel = Graph | Number | Table


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a headline."""

    title: str
    panels: Sequence[Panel]


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
            .tags([_TAG])
            .link(_others())
            .readonly()
            .refresh("30s")
            .time("now-3h", "now")
            .timezone("utc")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
        )
        for section in self.sections:
            board = board.with_row(dashboard.Row(section.title))
            for panel in section.panels:
                board = board.with_panel(panel.build())
        return _numbered(board.build())

    @property
    def queries(self) -> list[str]:
        """All that it asks Prometheus."""
        return [
            query
            for section in self.sections
            for panel in section.panels
            for query in panel.queries
        ]


def increased(counter: str, window: str) -> str:
    """How much a counter has grown within a window; one that has only just begun, by all of it,
    where Prometheus sees no increase."""
    return f"(({counter} unless {counter} offset {window}) or increase({counter}[{window}]))"


def _below() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(words.LegendDisplayMode.LIST)
        .placement(words.LegendPlacement.BOTTOM)
        .show_legend(True)
    )


def _beside() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(words.LegendDisplayMode.TABLE)
        .placement(words.LegendPlacement.RIGHT)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
        .sort_by("Max")
        .sort_desc(True)
    )


def _others() -> dashboard.DashboardLink:
    """The way from each dashboard to all of them, with the same time."""
    return (
        dashboard.DashboardLink("Companion")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .keep_time(True)
    )


def _numbered(board: model.Dashboard) -> model.Dashboard:
    """Grafana finds a panel by its number; those without one some of its versions show as one."""
    for number, panel in enumerate(board.panels or (), 1):
        panel.id_val = number
    return board


def _query(line: Line, ref_id: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(line.expr).ref_id(ref_id)
    return query.legend_format(line.legend) if line.legend else query
