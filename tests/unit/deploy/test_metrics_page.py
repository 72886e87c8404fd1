"""docs/metrics.md tells every metric that the code has, as it is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "metrics.md"
# Two letters at the end at least: databases' users are called `companion_chat_a`.
_NAMED = re.compile(r"\bcompanion_[a-z]+_[a-z_]*[a-z]{2}\b")
_ROW = re.compile(r"^\| `(companion_\w+)` \| (counter|gauge|histogram) \| ([^|]+) \|", re.MULTILINE)


def _in_code() -> dict[str, tuple[str, tuple[str, ...]]]:
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]:
        if re.search(r"^from prometheus_client import", path.read_text("utf-8"), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    metrics = {
        metric for metric in REGISTRY._collector_to_names if isinstance(metric, MetricWrapperBase)
    }
    return {
        f"{metric._name}_total" if metric._type == "counter" else metric._name: (
            str(metric._type),
            tuple(metric._labelnames),
        )
        for metric in metrics
        if metric._name.startswith("companion_")
    }


def _on_page() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        name: (type_, tuple(re.findall(r"`(\w+)`", labels)))
        for name, type_, labels in _ROW.findall(PAGE.read_text("utf-8"))
    }


def test_the_page_tells_what_there_is() -> None:
    assert _on_page() == _in_code()


def test_other_pages_name_metrics_as_this_one_does() -> None:
    known = set(_NAMED.findall(PAGE.read_text("utf-8")))
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/runbooks").glob("*.md")]
    pages += [*(ROOT / "services").glob("*/README.md")]
    named = {
        (page.relative_to(ROOT).as_posix(), re.sub(r"_(bucket|sum|count)$", "", name))
        for page in pages
        for name in _NAMED.findall(page.read_text("utf-8"))
    }
    assert len(named) > 50
    assert {(page, name) for page, name in named if name not in known} == set()


@pytest.mark.parametrize("label", ["user", "user_id", "key", "path", "email", "request_id"])
def test_no_label_is_without_bounds(label: str) -> None:
    assert [name for name, (_, labels) in _in_code().items() if label in labels] == []


def test_no_label_is_one_that_prometheus_gives_to_all_that_it_scrapes() -> None:
    """Of two with a name ours would become `exported_…`, and no rule would find it."""
    given = {"job", "instance", "process", "pool", "kind"}
    given |= {"namespace", "pod", "container", "endpoint", "node"}  # of Kubernetes' operator
    assert [name for name, (_, labels) in _in_code().items() if given & set(labels)] == []
