"""The page of documentation: served by the gateway itself, and allowed to do very little."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from deploy import envoy
from tests.gateway.conftest import Gateway

PAGE = Path(str(envoy.__file__)).with_name("docs.html")


async def test_the_page_arrives_as_it_is_written(gateway: Gateway) -> None:
    answer = await gateway.send("/docs")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body == PAGE.read_bytes()


async def test_nothing_but_its_own_script_and_style_may_run(gateway: Gateway) -> None:
    answer = await gateway.send("/docs")
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    page = answer.body.decode()
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        hashes = {b64encode(sha256(body.encode()).digest()).decode() for body in bodies}
        assert {f"'sha256-{value}'" for value in hashes} == set(policy[directive].split())
        assert len(bodies) == len(re.findall(rf"<{tag}\b", page)) == 1
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_handler() -> None:
    page = PAGE.read_text()
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert not re.findall(r"\son\w+=|\sstyle=|innerHTML|insertAdjacentHTML|eval\(", page)
    for service in ("auth", "keyvault", "chat", "voice", "billing"):
        assert service in page
    assert "/openapi.json" in page
