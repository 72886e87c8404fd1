"""Pages lead to each other: no link into nothing, and no page that nobody is led to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("docs", "bench", "services", "deploy", "tests")
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (
        *ROOT.glob("*.md"),
        *(page for room in ROOMS for page in ROOT.joinpath(room).rglob("*.md")),
    )
    if "node_modules" not in path.parts
)
_FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:")


def prose(page: Path) -> str:
    """A page without its examples."""
    return _FENCE.sub("", (ROOT / page).read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Where a link may point to within a page, as GitHub names headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        found.add(f"{name}-{again}" if again else name)
    return found


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Those within the repository: the file, and the anchor in it."""
    for target in _LINK.findall(prose(page)):
        if not _ELSEWHERE.match(target):
            file, _, anchor = target.partition("#")
            yield file, anchor


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for file, anchor in links(page):
        target = (ROOT / page.parent / file).resolve() if file else ROOT / page
        if not target.exists():
            lost.append(file)
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            lost.append(f"{file}#{anchor}")
    assert lost == []


def test_the_search_finds_pages_links_and_anchors() -> None:
    assert len(PAGES) > 100
    assert ("usage-events.md", "prices") in set(links(Path("docs/legacy.md")))
    assert "prices" in anchors(Path("docs/usage-events.md"))


def test_the_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    missing = {page.name for page in (ROOT / "docs").glob("*.md") if page.name not in readme}
    assert missing == set()


def test_decisions_are_numbered_as_they_are_called() -> None:
    numbers = []
    for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        numbers.append(int(page.name[:4]))
        assert page.read_text("utf-8").startswith(f"# {numbers[-1]}. "), page.name
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
