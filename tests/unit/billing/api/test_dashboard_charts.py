"""Charts that need no script, and scales that a person can read."""

from __future__ import annotations

import sys
from xml.etree.ElementTree import fromstring

import pytest

from services.billing.api.dashboard_charts import (
    Drawing,
    Series,
    lying_bars,
    stacked_bars,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 483, False, [0, 100, 200, 300, 400, 500]),
        (0, 0, False, [0, 0.2]),
        (0, 3, True, [0, 1, 2, 3]),
        (-30, 100, False, [-50, 0, 50, 100]),
    ],
)
def test_a_scale_has_round_steps_that_hold_everything(
    low: float, high: float, whole: bool, expected: list[float]
) -> None:
    assert ticks(low, high, whole=whole) == expected


def test_a_chart_has_no_script_no_style_and_nothing_from_elsewhere() -> None:
    name = '<script>alert("x")</script>'
    drawn = stacked_bars(
        Drawing("What it says.", ["May"], [Series(name, [3.0], color=2)], lambda n: f"${n:g}")
    )
    root = fromstring(drawn)
    names = {node.tag.rpartition("}")[2] for node in root.iter()}
    assert names.isdisjoint({"script", "style", "image", "use", "foreignObject", "a"})
    for node in root.iter():
        assert not [name for name in node.attrib if name.startswith("on") or name == "style"]
    assert (root.get("role"), root.get("aria-label")) == ("img", "What it says.")
    assert "May: $3" in [node.text for node in root.iter() if node.tag.endswith("title")]
    assert any("color-2" in node.get("class", "") for node in root.iter())


def test_a_chart_changes_nothing_about_later_imports() -> None:
    stacked_bars(Drawing("One.", ["May"], [Series("One", [1.0])], str))
    assert not [one for one in sys.meta_path if type(one).__module__ == "pygal"]


@pytest.mark.parametrize("most", [0.41, 48_000.0, 7_654_321.0])
def test_the_last_number_of_a_lying_scale_is_not_cut_off(most: float) -> None:
    drawn = lying_bars(
        Drawing("One.", ["a model"], [Series("One", [most])], lambda n: f"${n:,.2f}")
    )
    root = fromstring(drawn)
    width = float(root.get("viewBox", "").split()[2])
    plot = next(node for node in root.iter() if node.get("class") == "plot")
    begins = float(plot.get("transform", "").removeprefix("translate(").split(",")[0])
    scale = next(node for node in plot if "axis x" in node.get("class", ""))
    numbers = [node for node in scale.iter() if node.tag.endswith("text")]
    last = max(numbers, key=lambda node: float(node.get("x", "0")))
    # Digits are a bit more than half as wide as they are high (13).
    half = len(last.text or "") * 7.3 / 2
    assert begins + float(last.get("x", "0")) + half <= width
