"""Pages lead to each other: no link into nothing, and no page that nobody is led to.

Lists in them are complete.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from deploy.companion.programs import SERVICES
from shared.events import CATALOGUE

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
_DECISION = re.compile(
    r"^- \[(\d+\. [^\]]+)\]\((\S+)\)(?: \(partly replaced by (.+)\))?$", re.MULTILINE
)
_REPLACED = re.compile(r"\A[^\n]+\n\nPartly replaced by (.+?)\.\n\n", re.DOTALL)
_PLACE = re.compile(r"`((?:deploy|services|shared)/[\w./-]*)`(?:: `(\w+)`)?")
_ALERT = re.compile(r"(\*\*)?\[\w+\]\(runbooks/(\w+)\.md\)(\*\*)?")
_EVENTS = re.compile(r"Publishes\b(.+?)Listens\s+to\b(.+?)(?:\n\n|\"\"\"|\Z)", re.DOTALL)
_TYPE = re.compile(r"`([a-z]+\.[a-z_]+)`")
# What a service says by shared code, named by what it takes of that.
BY_SHARED = {
    ("shared.erasure", "Forget"): "user.forgotten",
    ("shared.messaging.replay", "install_replay"): "usage.manifest",
}


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


def test_the_readme_leads_to_every_page() -> None:
    led = {(ROOT / file).resolve() for file, _ in links(Path("README.md"))}
    pages = {*ROOT.glob("docs/*.md"), *ROOT.glob("services/*/README.md")}
    assert pages | {ROOT / "docs/decisions/README.md", ROOT / "CHANGELOG.md"} <= led


def test_the_ways_lead_through_files_and_names_that_are_there() -> None:
    places = _PLACE.findall(prose(Path("docs/ways.md")))
    lost = [(file, name) for file, name in places if not is_there(ROOT / file, name)]
    assert lost == []
    assert len(places) > 40


def is_there(file: Path, name: str) -> bool:
    """The file, and what it defines by this name if one is given."""
    if not name:
        return file.exists()
    return bool(re.search(rf"^((async )?def|class) {name}\b|^{name} = ", file.read_text(), re.M))


def test_the_changelog_has_the_headings_of_its_form() -> None:
    """Those of Keep a Changelog, behind what an operator has to do; each once in a release."""
    kinds = ["Upgrading", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for release in (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1:]:
        headings = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert headings == [kind for kind in kinds if kind in headings]
        assert "Upgrading" in headings, release.splitlines()[0]


def test_decisions_are_numbered_as_they_are_called() -> None:
    numbers = []
    for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        numbers.append(int(page.name[:4]))
        assert page.read_text("utf-8").startswith(f"# {numbers[-1]}. "), page.name
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_the_list_of_decisions_is_complete() -> None:
    """Each once, with its title and with those that its page says replace a part of it."""
    folder = ROOT / "docs/decisions"
    listed = _DECISION.findall((folder / "README.md").read_text("utf-8"))
    pages = []
    for page in folder.glob("[0-9]*.md"):
        text = page.read_text("utf-8")
        said = _REPLACED.match(text)
        others = re.findall(r"\[\d+\]\(\S+?\)", said[1]) if said else []
        pages.append((text.split("\n", 1)[0].removeprefix("# "), page.name, ", ".join(others)))
    assert sorted(listed) == sorted(pages)


def test_the_list_of_alerts_is_complete() -> None:
    """Each once, in bold if it wakes somebody."""
    text = (ROOT / "docs/observability.md").read_text("utf-8")
    section = text.split("\n## Alerts\n", 1)[1].split("\n## ", 1)[0]
    listed = [(name, bool(before and after)) for before, name, after in _ALERT.findall(section)]
    pages = [
        (page.stem, "Severity: **page**" in page.read_text("utf-8"))
        for page in (ROOT / "docs/runbooks").glob("*.md")
    ]
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize("page", ["README.md", "__init__.py"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_which_events_it_publishes_and_listens_to(service: str, page: str) -> None:
    said = _EVENTS.search((ROOT / "services" / service / page).read_text("utf-8"))
    assert said is not None
    publishes, listens_to = ({*_TYPE.findall(part)} for part in said.groups())
    assert publishes == published(service)
    assert listens_to == set(import_module(f"services.{service}.tasks").listen.subscriptions)


def published(service: str) -> set[str]:
    """The types of the events that a service makes, by itself or by shared code."""
    types = {(event.__module__, event.__name__): type_ for type_, event in CATALOGUE.items()}
    found = set()
    for path in (ROOT / "services" / service).rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        imported = {
            (node.module or "", alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        made = {
            node.func.id
            for node in nodes
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        found |= {types[one] for one in imported & types.keys() if one[1] in made}
        found |= {BY_SHARED[one] for one in imported & BY_SHARED.keys()}
    return found
