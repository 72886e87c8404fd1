"""The documents of all services can be had without running one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.companion.programs import SERVICES
from deploy.openapi import main


def test_each_service_has_its_document(tmp_path: Path) -> None:
    assert main([str(tmp_path / "openapi")]) == 0
    documents = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("openapi/*")}
    assert documents.keys() == set(SERVICES)
    for service, document in documents.items():
        assert document["openapi"].startswith("3."), service
        assert document["info"]["title"], service
        assert not any(path.startswith("/internal") for path in document["paths"]), service
    # Those that stand before the routers are in it, too.
    assert any("post" in about for about in documents["chat"]["paths"].values())
    # Who comes from a client that is not known is shown a page.
    for operation in documents["auth"]["paths"]["/oauth/authorize"].values():
        assert "text/html" in operation["responses"]["400"]["content"]
    turns = [path for path in documents["chat"]["paths"] if path.endswith("/messages")]
    assert turns


def test_doors_of_sdks_state_the_statuses_that_they_answer(tmp_path: Path) -> None:
    main([str(tmp_path)])
    doors = {
        "chat": ("/v1/models/{model}", "/openai/v1/models", "/anthropic/v1/models", "/gemini/"),
        "voice": ("/v1/audio/speech", "/openai/v1/audio/speech"),
    }
    for service, starts in doors.items():
        paths = json.loads((tmp_path / f"{service}.json").read_text())["paths"]
        for start in starts:
            found = [about for path, about in paths.items() if path.startswith(start)]
            stated = [operation["responses"] for about in found for operation in about.values()]
            assert stated, start
            for responses in stated:
                assert "422" not in responses, start
                assert "application/problem+json" not in responses["400"]["content"], start


def test_what_is_refused_before_a_route_is_asked_is_stated(tmp_path: Path) -> None:
    main([str(tmp_path)])
    documents = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    every = [path for document in documents for path in document["paths"].items()]
    assert len(documents) == len(SERVICES)
    for path, operations in every:
        for method, operation in operations.items():
            stated = operation["responses"]
            # Problem documents, also where a route answers in a vendor's form.
            refused = {"413", "415"} if "requestBody" in operation else set()
            for status in refused | ({"401"} & stated.keys()):
                assert status in stated, (method, path, status)
                assert "application/problem+json" in stated[status]["content"], (method, path)


def told_by(part: Any, document: Mapping[str, Any], seen: set[str]) -> Iterator[dict[str, Any]]:
    """The properties of every object in a part of a document and in what it refers to, once."""
    if isinstance(part, list):
        for one in part:
            yield from told_by(one, document, seen)
    elif isinstance(part, dict):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            yield from told_by(document["components"]["schemas"][name], document, seen)
        if isinstance(part.get("properties"), dict):
            yield part["properties"]
        yield from told_by(list(part.values()), document, seen)


@pytest.mark.parametrize("service", SERVICES)
def test_sums_in_answers_are_told_in_micro_dollars_and_in_dollars(
    service: str, tmp_path: Path
) -> None:
    main([str(tmp_path)])
    document = json.loads((tmp_path / f"{service}.json").read_text())
    seen: set[str] = set()
    bodies = [
        properties
        for about in document["paths"].values()
        for operation in about.values()
        for properties in told_by(operation["responses"], document, seen)
    ]
    assert seen, "the search itself must find bodies"
    alone = [
        name
        for properties in bodies
        for name in properties
        if "microusd" in name and name.replace("microusd", "usd") not in properties
    ]
    assert alone == []
    sums = sum("microusd" in name for properties in bodies for name in properties)
    assert sums > {"billing": 60, "chat": 4}.get(service, -1)


@pytest.mark.parametrize("service", SERVICES)
def test_what_changes_something_takes_the_dollars_that_are_told_of_it(
    service: str, tmp_path: Path
) -> None:
    main([str(tmp_path)])
    document = json.loads((tmp_path / f"{service}.json").read_text())
    found = [
        (path, name, taken)
        for path, about in document["paths"].items()
        for method in {"put", "patch"} & about.keys()
        for taken in told_by(about[method].get("requestBody", {}), document, set())
        for told in told_by(about.get("get", {}).get("responses", {}), document, set())
        for name in taken
        if "microusd" in name and name.replace("microusd", "usd") in told
    ]
    refused = [
        (path, name) for path, name, taken in found if name.replace("microusd", "usd") not in taken
    ]
    assert refused == []
    assert len(found) == {"billing": 1, "chat": 2}.get(service, 0)


def test_it_wants_to_know_where_to() -> None:
    assert main([]) == 2
