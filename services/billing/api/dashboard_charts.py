"""Charts as SVG that stands in the page: without a script, and styled by the page's own sheet."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

from shared.values import dataclass

Format = Callable[[float], str]

_WIDTH, _HEIGHT = 640, 320
_STEPS = (1, 2, 2.5, 5, 10)
_TICKS = 5
# What pygal brings for its script, which we leave out.
_DROPPED = frozenset({"tooltip-overlay", "crosshairs"})
_DROPPED_NAMES = frozenset({"style", "script", "title"})


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart, which is its place unless it is given. None: there is no figure."""

    name: str
    values: Sequence[float | None]
    color: int | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn. `says`: the chart in one sentence, for who can't see it."""

    says: str
    labels: Sequence[str]
    series: Sequence[Series]
    form: Format
    whole: bool = False  # no ticks between whole numbers


def stacked_bars(of: Drawing) -> Markup:
    tops = [sum(max(value or 0, 0) for value in column) for column in _columns(of)]
    return _draw("StackedBar", of, min(0, *_lows(of)), max(tops, default=0))


def bars(of: Drawing) -> Markup:
    return _draw("Bar", of, min(0, *_lows(of)), max(_values(of), default=0))


def lines(of: Drawing) -> Markup:
    """With a label at some of the points, where there are many."""
    every = max(1, math.ceil(len(of.labels) / 7))
    return _draw(
        "Line",
        of,
        0,
        max(_values(of), default=0),
        show_dots=False,
        x_labels_major_every=every,
        show_minor_x_labels=False,
    )


def lying_bars(of: Drawing) -> Markup:
    """From the top down, for long labels."""
    height = 90 + 34 * len(of.labels)
    turned = Drawing(
        of.says,
        list(reversed(of.labels)),
        [Series(one.name, list(reversed(one.values)), one.color) for one in of.series],
        of.form,
    )
    tops = [sum(value or 0 for value in column) for column in _columns(of)]
    # The last number of the scale stands under the right edge, with half of it beyond.
    room = {"height": height, "margin_right": 40}
    return _draw("HorizontalStackedBar", turned, 0, max(tops, default=0), **room)


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about five."""
    span = (high - low) or 1.0
    rough = span / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _STEPS if factor * power >= rough * 0.9999)
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def _values(of: Drawing) -> list[float]:
    return [value for one in of.series for value in one.values if value is not None]


def _lows(of: Drawing) -> list[float]:
    return [*_values(of), 0]


def _columns(of: Drawing) -> list[tuple[float | None, ...]]:
    return list(zip(*(one.values for one in of.series), strict=True))


def _leave_imports_alone() -> None:
    """pygal looks on at every later import, for maps that we have not, in a way of Python 2's: each
    failed import of an optional module would warn of it."""
    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != "pygal"]


def _draw(kind: str, of: Drawing, low: float, high: float, **options: Any) -> Markup:
    scale = ticks(low, high, whole=of.whole)
    chart = _chart(kind, of, range=(scale[0], scale[-1]), **options)
    chart.y_labels = scale
    chart.x_labels = list(of.labels)
    for one in of.series:
        chart.add(one.name, list(one.values))

    def settle(root: Element) -> Element:
        _strip(root)
        _paint(root, of.series)
        root.set("role", "img")
        root.set("aria-label", of.says)
        return root

    chart.add_xml_filter(settle)
    # Everything in it was escaped by the XML writer.
    return Markup(chart.render(is_unicode=True))  # noqa: S704


def _chart(kind: str, of: Drawing, **options: Any) -> Any:
    """Of that kind and in our looks, with nothing drawn yet."""
    # Takes a tenth of a second to import, and only this page needs it.
    import pygal
    from pygal.etree import etree
    from pygal.style import Style

    _leave_imports_alone()
    # It would take lxml where that happens to be installed, whose elements are none of ours.
    etree.to_etree()
    return getattr(pygal, kind)(
        style=Style(
            font_family="sans-serif",
            label_font_size=13,
            major_label_font_size=13,
            legend_font_size=13,
            guide_stroke_dasharray="0",
            major_guide_stroke_dasharray="0",
        ),
        width=_WIDTH,
        height=options.pop("height", _HEIGHT),
        explicit_size=False,
        margin=6,
        spacing=14,
        legend_at_bottom=True,
        legend_at_bottom_columns=min(max(len(of.series), 1), 4),
        legend_box_size=11,
        truncate_legend=24,
        truncate_label=40,
        show_legend=len(of.series) > 1,
        js=(),
        disable_xml_declaration=True,
        value_formatter=of.form,
        rounded_bars=2,
        **options,
    )


def _strip(root: Element) -> None:
    for parent in list(root.iter()):
        parent.attrib.pop("style", None)
        for child in list(parent):
            if _is_dropped(child):
                parent.remove(child)
        _give_hint(parent)


def _paint(root: Element, series: Sequence[Series]) -> None:
    """The same thing has the same colour in all charts."""
    wanted = {
        f"color-{place}": f"color-{one.color}"
        for place, one in enumerate(series)
        if one.color is not None
    }
    for node in root.iter():
        if "class" in node.attrib:
            names = node.attrib["class"].split()
            node.set("class", " ".join(wanted.get(name, name) for name in names))


def _is_dropped(node: Element) -> bool:
    # A comment's tag is a function.
    return (
        callable(node.tag)
        or _name(node) in _DROPPED_NAMES
        or bool(_DROPPED & set(node.get("class", "").split()))
    )


def _give_hint(parent: Element) -> None:
    """What a mouse that rests on a bar is told; pygal keeps it for its script."""
    found = [child for child in parent if _name(child) == "desc"]
    told = {child.get("class", ""): child.text or "" for child in found}
    for child in found:
        parent.remove(child)
    if "value" in told:
        hint = SubElement(parent, "title")
        hint.text = ": ".join(text for text in (told.get("x_label"), told["value"]) if text)


def _name(node: Element) -> str:
    return str(node.tag).rpartition("}")[2]
