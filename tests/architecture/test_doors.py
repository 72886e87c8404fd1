"""No request of ours hops to a thread: FastAPI runs plain functions there, whatever they do."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

SERVICES = ("auth", "keyvault", "chat", "voice", "billing")


def routes(service: str) -> Iterator[APIRoute]:
    """Every route of a service, public and internal."""
    package = importlib.import_module(f"services.{service}.api")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            for route in getattr(value, "routes", ()):
                if isinstance(route, APIRoute):
                    yield route


def calls(dependant: Dependant) -> Iterator[Any]:
    """A route's function and all that it depends on."""
    if dependant.call is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_and_dependency_is_async(service: str) -> None:
    found = [call for route in routes(service) for call in calls(route.dependant)]
    assert len(found) > 5, "the search itself must find routes"

    plain = [call for call in found if not _is_async(call)]

    assert plain == []


def _is_async(call: Any) -> bool:
    function = call if inspect.isroutine(call) else type(call).__call__
    return inspect.iscoroutinefunction(function)
