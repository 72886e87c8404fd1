"""Who asks over HTTP goes straight to whom it asks, whatever proxy its surroundings name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# With a transport of its own a client looks for no proxy.
_STRAIGHT = {"transport"}


def http_calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls by which httpx (which trusts its environment unless told not to) opens something,
    and aiohttp (which does not)."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = ast.unparse(node.func)
        if name in {
            "httpx.AsyncClient",
            "httpx.Client",
            "httpx.AsyncHTTPTransport",
            "httpx.HTTPTransport",
            "httpx.get",
            "httpx.post",
            "httpx.request",
            "httpx.stream",
            "aiohttp.ClientSession",
        }:
            yield name, node


def follows_a_proxy(name: str, call: ast.Call) -> bool:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}
    by_itself = "False" if name.startswith("aiohttp") or "Transport" in name else "True"
    return not given.keys() & _STRAIGHT and given.get("trust_env", by_itself) != "False"


def test_no_client_follows_a_proxy_of_its_environment() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{call.lineno}": follows_a_proxy(name, call)
        for room in ("services", "shared", "deploy")
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, call in http_calls(path.read_text("utf-8"))
    }
    assert len(found) >= 8
    assert [place for place, follows in found.items() if follows] == [], "trust_env=False"


def test_names_are_called_by_their_modules() -> None:
    """So that the test above sees them."""
    hidden = [
        str(path.relative_to(ROOT))
        for room in ("services", "shared", "deploy")
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in {"httpx", "aiohttp"}
        for alias in node.names
        if alias.name in {"AsyncClient", "Client", "ClientSession", "get", "post", "request"}
    ]
    assert hidden == []
