"""The documents of all services can be had without running one."""

import json
from pathlib import Path

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


def test_it_wants_to_know_where_to() -> None:
    assert main([]) == 2
