"""The outermost layer of every web process, in front of a real application."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from prometheus_client import REGISTRY
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from structlog.testing import capture_logs

from shared.errors import DependencyUnavailable, NotFound, UpstreamFailed
from shared.events.base import current_request_id, current_traceparent
from shared.http.app import create_http_app
from shared.http.caller import FreshlyProven, OnlyFrom, SignedIn, StillSignedIn
from shared.http.door import Door
from shared.http.errors import PROBLEM, install_error_handlers, problem_of, problem_response
from shared.http.hot import HotRoutes
from shared.ids import uuid7
from shared.settings import CommonSettings
from tests.support.engines import ValkeyServer
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import SERVICES, TokenMint, identity_of, write_identities

SECRET = "hunter-two-and-more"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
LARGEST = 1000


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=20)
    count: int = Field(0, ge=0, le=100)
    password: SecretStr = Field(SecretStr(""), max_length=10)
    colour: Literal["red", "blue"] = "red"
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    labels: dict[str, int] = Field(default_factory=dict)
    owner: UUID | None = None

    @field_validator("name")
    @classmethod
    def is_polite(cls, name: str) -> str:
        if "rude" in name:
            raise ValueError(f"{name} is rude")
        return name


router = APIRouter()


@router.get("/context")
async def context() -> dict[str, Any]:
    return {"request_id": current_request_id.get(), "trace": current_traceparent.get()}


@router.post("/bodies/{number}")
async def take(number: int, body: Body) -> dict[str, int]:
    return {"number": number, "length": len(body.name)}


@router.post("/raw")
async def raw(request: Request) -> dict[str, int]:
    return {"length": len(await request.body())}


@router.get("/bug")
async def bug() -> None:
    raise RuntimeError(SECRET)


@router.get("/missing")
async def missing() -> None:
    raise NotFound("No such thing.", thing="77")


@router.get("/passed-on/{status}")
async def passed_on(status: int) -> Response:
    """As doors do that answer as the vendor does."""
    _, document, headers = problem_of(UpstreamFailed("The vendor failed."))
    return problem_response(status, document, headers)


@router.get("/away")
async def away() -> None:
    raise DependencyUnavailable("database")


@router.get("/cut")
async def cut() -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError(SECRET)

    return StreamingResponse(chunks())


@router.get("/mine")
async def mine(caller: SignedIn) -> dict[str, str]:
    return {"user": str(caller.identity.user_id), "tier": caller.tier.name}


@router.get("/sensitive")
async def sensitive(_caller: StillSignedIn) -> dict[str, str]:
    return {}


@router.get("/final")
async def final(_caller: FreshlyProven) -> dict[str, str]:
    return {}


def build(app: Any = None, *, sandbox: bool = False) -> Door:
    return Door(app or _application(), service="probe", largest_body=LARGEST, sandbox=sandbox)


def _application() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    app.include_router(router)
    install_error_handlers(app)
    return app


@asynccontextmanager
async def talking_to(door: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(door, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        yield client


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was logged; also spares us the pretty tracebacks of an unconfigured structlog."""
    with capture_logs() as entries:
        # The module's own may be bound already to what another test has configured.
        monkeypatch.setattr("shared.http.door.log", structlog.get_logger("door"))
        yield entries


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def request_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Reads the requests' own lines, which no logging library writes."""
    logger = logging.getLogger("door")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logger.setLevel(before)


async def test_below_the_level_no_line_is_written(request_lines: Lines) -> None:
    logging.getLogger("door").setLevel(logging.WARNING)
    async with talking_to(build()) as client:
        await client.get("/context")
    assert request_lines() == []


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with talking_to(build()) as client:
        yield client


async def test_a_request_id_is_kept_and_answered(client: httpx.AsyncClient) -> None:
    answer = await client.get("/context", headers={"x-request-id": "order-77.a_B"})
    assert answer.headers["x-request-id"] == "order-77.a_B"
    assert answer.json()["request_id"] == "order-77.a_B"


@pytest.mark.parametrize(
    "given", [None, "", "short", "a" * 65, "with space", "new\tline", "<script>", "é" * 10]
)
async def test_a_request_id_that_could_do_harm_is_replaced(
    client: httpx.AsyncClient, given: str | None
) -> None:
    headers = {} if given is None else {b"x-request-id": given.encode()}
    answer = await client.get("/context", headers=headers)
    made = answer.headers["x-request-id"]
    assert made == answer.json()["request_id"] != given
    assert len(made) == 36


async def test_a_trace_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/context", headers={"traceparent": TRACE})
    assert answer.json()["trace"] == TRACE


@pytest.mark.parametrize("given", ["", "00-1-2-01", TRACE + "-more", TRACE.upper(), "x" * 55])
async def test_a_trace_that_is_none_is_begun(client: httpx.AsyncClient, given: str) -> None:
    trace = (await client.get("/context", headers={"traceparent": given})).json()["trace"]
    version, trace_id, span, flags = trace.split("-")
    assert (version, len(trace_id), len(span), flags) == ("00", 32, 16, "01")


async def test_concurrent_requests_keep_their_ids_apart(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(client.get("/context", headers={"x-request-id": f"request-{n}"}) for n in range(50))
    )
    assert [a.json()["request_id"] for a in answers] == [f"request-{n}" for n in range(50)]


async def test_only_the_sandbox_is_marked(client: httpx.AsyncClient) -> None:
    assert "x-sandbox" not in (await client.get("/context")).headers
    async with talking_to(build(sandbox=True)) as sandboxed:
        for path in ("/context", "/nowhere", "/bug"):
            assert (await sandboxed.get(path)).headers["x-sandbox"] == "true"


async def test_a_body_may_be_as_large_as_the_door(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raw", content=b"x" * LARGEST)
    assert answer.json() == {"length": LARGEST}


async def test_some_paths_take_more_than_the_door_does() -> None:
    door = Door(
        _application(),
        service="probe",
        largest_body=LARGEST,
        sandbox=False,
        larger_bodies={"/raw": 2 * LARGEST},
    )
    async with talking_to(door) as client:
        more, too_much = b"x" * 2 * LARGEST, b"x" * (2 * LARGEST + 1)
        assert (await client.post("/raw", content=more)).json() == {"length": 2 * LARGEST}
        refused = await client.post("/raw", content=too_much)
        assert refused.json()["largest_body_bytes"] == 2 * LARGEST
        for path in ("/bodies/1", "/raw/", "/raw/x"):
            assert (await client.post(path, content=more)).status_code == 413


async def test_a_larger_body_is_refused_by_its_declared_length(client: httpx.AsyncClient) -> None:
    for path in ("/raw", "/bodies/1", "/nowhere"):
        answer = await client.post(path, content=b"x" * (LARGEST + 1))
        assert answer.status_code == 413
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json()["code"] == "too_large"
        assert answer.json()["largest_body_bytes"] == LARGEST


@pytest.mark.parametrize("path", ["/raw", "/bodies/1"])
async def test_a_larger_body_is_refused_without_a_declared_length(
    client: httpx.AsyncClient, path: str
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 100

    answer = await client.post(
        path, content=endless(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
    assert answer.json()["largest_body_bytes"] == LARGEST
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("length", ["9" * 5000, "99999999999999999999"])
async def test_an_absurd_length_is_too_large(client: httpx.AsyncClient, length: str) -> None:
    answer = await client.post("/raw", content=b"", headers={"content-length": length})
    assert answer.status_code == 413


async def test_a_bug_answers_500_without_a_word_about_it(
    client: httpx.AsyncClient, logged: list[Any], request_lines: Lines
) -> None:
    answer = await client.get("/bug?secret=" + SECRET, headers={"x-request-id": "request-77"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["x-request-id"] == "request-77"
    assert answer.json() == {
        "type": "urn:companion:problem:internal_error",
        "title": "We made a mistake",
        "status": 500,
        "detail": "The request failed.",
        "code": "internal_error",
        "request_id": "request-77",
    }
    [failed] = logged
    assert (failed["event"], failed["route"], failed["exc_info"]) == (
        "request_failed",
        "/bug",
        True,
    )
    [request] = request_lines()
    assert (request["event"], request["status"]) == ("request", 500)
    assert SECRET not in str([failed, request])


async def test_each_request_leaves_one_line(
    client: httpx.AsyncClient, request_lines: Lines
) -> None:
    head = {"x-request-id": "request-77", "traceparent": TRACE}
    await client.post("/bodies/17?q=" + SECRET, json={"name": "x"}, headers=head)
    await client.get(f"/nowhere/{SECRET}", headers=head)
    known, unknown = request_lines()
    assert 0 < known.pop("ms") < 10_000
    assert known.pop("timestamp").endswith("Z")
    assert known == {
        "event": "request",
        "level": "info",
        "logger": "door",
        "service": "probe",
        "method": "POST",
        "route": "/bodies/{number}",
        "status": 200,
        "request_id": "request-77",
        "traceparent": TRACE,
    }
    assert (unknown["route"], unknown["status"]) == ("unmatched", 404)
    assert SECRET not in str(unknown)


async def test_a_key_sent_as_a_requests_id_stays_out_of_its_line(
    client: httpx.AsyncClient, request_lines: Lines
) -> None:
    key = "sk-" + "ant-api03-aB3dE5fG7hJ9kL1mN2pQ4rS6"
    await client.get("/context", headers={"x-request-id": key})
    [line] = request_lines()
    assert line["request_id"] == "[redacted]"


@pytest.mark.parametrize("trouble", [OSError("disk full"), ValueError("closed")])
async def test_a_line_that_cannot_be_written_costs_no_request(
    client: httpx.AsyncClient,
    request_lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
) -> None:
    class Full:
        def write(self, _line: str) -> None:
            raise trouble

    monkeypatch.setattr("sys.stdout", Full())
    assert (await client.get("/context")).status_code == 200
    monkeypatch.undo()
    assert request_lines() == []


async def test_a_bug_in_the_middle_of_a_stream_ends_it() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/cut", "headers": [], "query_string": b""}
    await build()(
        scope | {"raw_path": b"/cut", "root_path": "", "http_version": "1.1"}, receive, send
    )
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"] is True
    assert SECRET not in str(sent)


async def test_an_expected_failure_is_its_document(client: httpx.AsyncClient) -> None:
    answer = await client.get("/missing")
    assert (answer.status_code, answer.json()["thing"]) == (404, "77")
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "route_not_found"),
        ("GET", "/context/", 404, "route_not_found"),
        ("GET", "//context", 404, "route_not_found"),
        ("DELETE", "/context", 405, "method_not_allowed"),
        ("GET", "/" + SECRET, 404, "route_not_found"),
        ("GET", "/%00%ff", 404, "route_not_found"),
    ],
)
async def test_an_unknown_route_is_a_problem_too(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == PROBLEM
    assert SECRET not in answer.text


def _nested() -> FastAPI:
    """One path's methods in routers within routers, and beside a template that takes it too."""
    reading, writing, both = APIRouter(prefix="/things"), APIRouter(), APIRouter()

    @reading.get("")
    @reading.get("/{name}")
    async def read() -> None: ...

    @writing.post("/things")
    @writing.delete("/things/{name}")
    async def write() -> None: ...

    both.include_router(writing)
    both.include_router(reading)
    app = FastAPI(redirect_slashes=False)

    @app.patch("/things/one")
    async def patch() -> None: ...

    app.include_router(both, prefix="/deep")
    app.include_router(both)
    install_error_handlers(app)
    return app


@pytest.mark.parametrize("prefix", ["", "/deep"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/things", {"GET", "HEAD", "POST"}), ("/things/two", {"GET", "HEAD", "DELETE"})],
)
async def test_a_405_names_each_method_of_its_path(
    prefix: str, path: str, allowed: set[str]
) -> None:
    async with talking_to(build(HotRoutes(_nested(), ()))) as client:
        for method in ("PUT", "OPTIONS", "PROPFIND"):
            answer = await client.request(method, prefix + path)
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == allowed
        for method in allowed:
            assert (await client.request(method, prefix + path)).status_code == 200


async def test_a_405_names_the_methods_of_all_templates_that_its_path_fits() -> None:
    async with talking_to(build(_nested())) as client:
        answer = await client.put("/things/one")
        assert answer.headers["allow"] == "GET, HEAD, PATCH, DELETE"


ENCODED = gzip.compress(b'{"name": "x"}')


@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "x-gzip", "br", "zstd", "deflate, identity", "identity, gzip", "?"]
)
@pytest.mark.parametrize("path", ["/bodies/1", "/raw", "/nowhere"])
async def test_a_body_in_a_coding_is_refused_as_that(
    client: httpx.AsyncClient, coding: str, path: str
) -> None:
    head = {"content-type": "application/json", "content-encoding": coding}
    answer = await client.post(path, content=ENCODED, headers=head)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["accept-encoding"] == "identity"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "Content-Encoding" in answer.json()["detail"]


async def test_no_coding_hides_in_pieces_or_in_a_second_header(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield ENCODED

    answer = await client.post("/raw", content=pieces(), headers={"content-encoding": "gzip"})
    assert answer.status_code == 415
    twice = [("content-encoding", "gzip"), ("content-encoding", "identity")]
    assert (await client.post("/raw", content=ENCODED, headers=twice)).status_code == 415


@pytest.mark.parametrize("coding", ["", "identity", "Identity", "identity, ,identity"])
async def test_a_body_as_it_is_may_say_so(client: httpx.AsyncClient, coding: str) -> None:
    answer = await client.post(
        "/bodies/1", json={"name": "x"}, headers={"content-encoding": coding}
    )
    assert answer.json() == {"number": 1, "length": 1}


async def test_a_coding_of_no_body_is_nothing(client: httpx.AsyncClient) -> None:
    head = {"content-encoding": "gzip"}
    assert (await client.get("/context", headers=head)).status_code == 200
    assert (await client.post("/raw", headers=head)).json() == {"length": 0}


HOSTILE: list[Any] = [
    {"name": SECRET * 3},
    {"name": f"rude {SECRET}"[:20]},
    {"name": "x", "count": SECRET},
    {"name": "x", "count": 10**30},
    {"name": "x", "count": -1},
    {"name": "x", "count": 1.5},
    {"name": "x", "password": SECRET},
    {"name": "x", "password": {"p": SECRET}},
    {"name": "x", "colour": SECRET},
    {"name": "x", "pet": {"kind": SECRET}},
    {"name": "x", "pet": SECRET},
    {"name": "x", SECRET: 1},
    {"name": "x", "\ud800": 1},
    {"name": "x", "a" * 900: 1},
    {"name": "x", "labels": {"l": SECRET}},
    {"name": "\ud800"},
    {"name": None},
    {"name": ["x"]},
    {"name": {"$ne": SECRET}},
    {},
    [],
    SECRET,
    5,
    None,
]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"content": '{"name": "x"}'}, "body: has to be sent as application/json"),
        ({"json": []}, "body: input should be an object"),
        (
            {"json": {"name": "x", "password": SECRET}},
            "body.password: should have at most 10 characters",
        ),
        (
            {"json": {"name": "x", "owner": 1}},
            "body.owner: UUID input should be a string, bytes or UUID object",
        ),
        ({"json": {"name": "x", "count": "y"}}, "body.count: input should be a valid integer"),
    ],
)
async def test_who_made_a_mistake_reads_which(
    client: httpx.AsyncClient, sent: dict[str, Any], told: str
) -> None:
    answer = await client.post("/bodies/1", **sent)
    assert answer.json()["detail"].startswith(told)


@pytest.mark.parametrize("body", HOSTILE, ids=repr)
async def test_a_body_off_its_schema_is_refused_without_an_echo(
    client: httpx.AsyncClient, body: Any
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/bodies/1", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["errors"]
    assert SECRET not in answer.text
    assert "rude" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"\xff\xfe",
        b"[" * 900,
        b'{"name": "x", "count": ' + b"9" * 900,
        b"\x00",
        b'{"name": "x"} trailing',
    ],
)
async def test_a_body_that_is_no_json_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/bodies/1", content=body, headers=headers)
    assert answer.status_code in ({422} if body == b"" else {400})
    assert answer.headers["content-type"] == PROBLEM


async def test_deep_json_is_no_bug() -> None:
    door = Door(_application(), service="probe", largest_body=1 << 20, sandbox=False)
    async with talking_to(door) as client:
        for body in (b"[" * 500_000, b'{"a":' * 100_000, b"9" * 5_000):
            headers = {"content-type": "application/json"}
            answer = await client.post("/bodies/1", content=body, headers=headers)
            assert answer.status_code in {400, 422}


async def test_a_path_off_its_schema_is_refused_without_an_echo(client: httpx.AsyncClient) -> None:
    for number in (SECRET, "9" * 5000, "1.5", "%00", "%ff"):
        answer = await client.post(f"/bodies/{number}", json={"name": "x"})
        assert answer.status_code == 422
        assert SECRET not in answer.text


def requests(route: str, status: str, method: str = "GET") -> float:
    labels = {"service": "probe", "method": method, "route": route, "status": status}
    return REGISTRY.get_sample_value("companion_http_requests_total", labels) or 0


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/passed-on/500", 1),
        ("/passed-on/503", 1),
        ("/passed-on/502", 0),
        ("/passed-on/429", 0),
        ("/away", 0),
        ("/bug", 0),
    ],
)
async def test_a_vendors_failure_is_counted_apart_from_ours(
    client: httpx.AsyncClient, path: str, counted: int
) -> None:
    def seen() -> float:
        name = "companion_http_vendor_failures_total"
        return REGISTRY.get_sample_value(name, {"service": "probe"}) or 0

    before = seen()
    await client.get(path)
    assert seen() - before == counted
    # One after it is not taken for it.
    await client.get("/away")
    assert seen() - before == counted


async def test_metrics_are_labelled_by_template_and_never_by_path(
    client: httpx.AsyncClient,
) -> None:
    before = requests("/bodies/{number}", "200", "POST"), requests("unmatched", "404")
    await client.post("/bodies/17", json={"name": "x"})
    await client.get("/nowhere/17")
    after = requests("/bodies/{number}", "200", "POST"), requests("unmatched", "404")
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]
    labels = {"service": "probe"}
    assert REGISTRY.get_sample_value("companion_http_requests_in_flight", labels) == 0


# What follows runs the whole process that `create_http_app` builds.


class Wired:
    """A service that does nothing and whose database comes and goes."""

    def __init__(self) -> None:
        self.actions = "the actions"
        self.database_is_gone = False
        self.checks = {"database": self.check}

    async def check(self) -> None:
        if self.database_is_gone:
            raise DependencyUnavailable("database")


@pytest.fixture
def wired() -> Wired:
    return Wired()


@pytest.fixture
def cache_url(valkey_server: ValkeyServer) -> Iterator[str]:
    with valkey_server.fresh_database() as url:
        yield url


@pytest.fixture
async def process(wired: Wired, tmp_path: Path, cache_url: str) -> AsyncIterator[Any]:
    mint = TokenMint()
    keys = write_identities(tmp_path)
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    async with mint.served() as jwks_url:
        settings = CommonSettings(
            database_url=SecretStr("postgresql://127.0.0.1:1"),
            cache_url=SecretStr(cache_url),
            broker_url=SecretStr("redis://127.0.0.1:1"),
            jwks_url=jwks_url,
            identity_key_file=keys["chat"],
            identity_trust_file=tmp_path / "trusted.json",
        )

        @asynccontextmanager
        async def wire() -> AsyncIterator[Wired]:
            yield wired

        peers = APIRouter()

        @peers.get("/peers/only-chat")
        async def only_chat(request: Request) -> str:
            return await OnlyFrom("chat")(request)

        process = create_http_app(
            "keyvault",
            settings,
            wire=wire,
            scope="chat",
            routers=[router],
            internal_routers=[peers],
        )
        async with process.lifespan():
            yield process, mint, tmp_path
    root.handlers = before


async def test_a_user_is_known_by_their_token(process: Any) -> None:
    built, mint, _ = process
    user = uuid7()
    async with talking_to(built.public) as client:
        answer = await client.get("/mine", headers=mint.headers(user, tier="pro"))
        assert answer.json() == {"user": str(user), "tier": "pro"}
        stranger = await client.get("/mine", headers=TokenMint().headers(user))
        assert stranger.status_code == 401
        assert stranger.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/mine")).json()["code"] == "unauthenticated"


async def test_a_token_for_something_else_does_not_come_in(process: Any) -> None:
    built, mint, _ = process
    async with talking_to(built.public) as client:
        answer = await client.get("/mine", headers=mint.headers(uuid7(), scope="voice billing"))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert answer.json()["scope"] == "chat"


async def test_what_matters_is_closed_to_a_session_that_has_ended(
    process: Any, cache_url: str
) -> None:
    built, mint, _ = process
    out, in_ = uuid7(), uuid7()

    async def code(session: UUID) -> tuple[int, str | None]:
        headers = mint.headers(uuid7(), sid=str(session))
        async with talking_to(built.public) as client:
            answer = await client.get("/sensitive", headers=headers)
        return answer.status_code, answer.json().get("code")

    # Nobody has told this Valkey anything: that is no proof that nobody has signed out.
    assert await code(in_) == (503, "dependency_unavailable")
    await know_ended_sessions(cache_url, [out])
    assert await code(in_) == (200, None)
    assert await code(out) == (401, "session_ended")


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 200),
        ({"auth_time": 0}, 403),
        ({"auth_time": int(time.time()) - 601}, 403),
        ({"auth_time": "soon"}, 403),
        ({"mfa": True}, 403),
        ({"mfa": True, "amr": ["pwd", "otp"]}, 200),
        ({"mfa": True, "amr": ["pwd", "recovery"]}, 200),
    ],
)
async def test_what_cannot_be_undone_wants_a_fresh_proof_with_all_factors(
    process: Any, cache_url: str, claims: dict[str, Any], status: int
) -> None:
    built, mint, _ = process
    await know_ended_sessions(cache_url)
    async with talking_to(built.public) as client:
        answer = await client.get("/final", headers=mint.headers(uuid7(), **claims))
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "step_up_required"
        assert answer.json()["max_age_seconds"] == 600


async def test_internal_routes_are_not_behind_the_public_port(process: Any) -> None:
    built, _, _ = process
    async with talking_to(built.public) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/peers/only-chat", "/docs", "/redoc"):
            assert (await client.get(path)).status_code == 404


async def test_only_named_services_come_in(process: Any) -> None:
    built, mint, directory = process
    async with talking_to(built.internal) as client:
        statuses = {}
        for name in SERVICES:
            token = identity_of(directory, name).token_for("keyvault")
            headers = {"authorization": f"Bearer {token}"}
            statuses[name] = (await client.get("/peers/only-chat", headers=headers)).status_code
        assert statuses == dict.fromkeys(SERVICES, 403) | {"chat": 200}
        assert (await client.get("/peers/only-chat")).status_code == 401
        answer = await client.get("/peers/only-chat", headers=mint.headers(uuid7()))
        assert answer.status_code == 401


async def test_readiness_names_the_dependency_that_is_gone(process: Any, wired: Wired) -> None:
    built, _, _ = process
    async with talking_to(built.internal) as client:
        assert (await client.get("/readyz")).json() == {
            "status": "ok",
            "dependencies": {"database": "ok"},
        }
        wired.database_is_gone = True
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["dependencies"] == {"database": "dependency_unavailable"}
        assert (await client.get("/healthz")).status_code == 200
        assert b"companion_http_requests" in (await client.get("/metrics")).content


async def test_the_document_of_the_api_is_served(process: Any) -> None:
    built, _, _ = process
    async with talking_to(built.public) as client:
        document = json.loads((await client.get("/openapi.json")).content)
    assert "/bodies/{number}" in document["paths"]
    assert "/healthz" not in document["paths"]
