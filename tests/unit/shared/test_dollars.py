"""Sums in answers are told in whole micro-dollars and, beside them, as decimal strings."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.http.dollars import DollarsAgree, DollarsBeside, in_dollars
from shared.http.errors import rule_text
from shared.http.pages import Page
from shared.money import MicroDollars

Price = Annotated[int | None, Field(ge=0, description="Micro-dollars.")]


class Asked(BaseModel):
    """What is asked for and told: prices."""

    input_microusd_per_million: Price = None
    unit_microusd: Price = None


class Told(Asked, DollarsBeside):
    """What is told of it."""

    microusd_per_seat_month: MicroDollars
    owed_microusd: int | None
    steps_microusd: list[Annotated[int, Field(ge=1)]]
    after: Later | None = None


class More(Told):
    """More than that."""

    late_microusd: int = 0
    own_microusd: int
    own_usd: str | None


class Later(BaseModel):
    """What is defined only after it is named."""

    name: str


class Choice(DollarsAgree):
    """What is asked for, and may be an answer sent back."""

    model_config = ConfigDict(extra="forbid")

    cap_microusd: Price = None
    steps_microusd: list[Annotated[int, Field(ge=1, strict=True)]] = Field([])
    name: str = ""


class Chosen(DollarsBeside):
    """What is told of it."""

    cap_microusd: int | None
    steps_microusd: list[int]
    name: str


def more(**given: Any) -> More:
    rest = {
        "microusd_per_seat_month": 1,
        "owed_microusd": 2,
        "steps_microusd": [],
        "own_microusd": 3,
    }
    return More(**(rest | {"own_usd": "of its own"} | given))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, None),
        (0, "0.000000"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (-25_990_000, "-25.990000"),
        (2**63, "9223372036854.775808"),
        (-(2**70), "-1180591620717411.303424"),
    ],
)
def test_a_sum_has_the_same_in_dollars_beside_it(amount: int | None, text: str | None) -> None:
    body = more(owed_microusd=amount)
    assert (body.model_dump()["owed_microusd"], body.model_dump()["owed_usd"]) == (amount, text)
    assert json.loads(body.model_dump_json())["owed_usd"] == text


def test_the_word_is_replaced_where_it_stands() -> None:
    body = more(
        input_microusd_per_million=180_000_000, microusd_per_seat_month=9_000_000
    ).model_dump()
    assert body["input_usd_per_million"] == "180.000000"
    assert (body["unit_microusd"], body["unit_usd"]) == (None, None)
    assert body["usd_per_seat_month"] == "9.000000"


def test_a_list_has_a_list_beside_it() -> None:
    assert more(steps_microusd=[5, 2**64]).model_dump()["steps_usd"] == [
        "0.000005",
        "18446744073709.551616",
    ]
    assert more().model_dump()["steps_usd"] == []


def test_a_twin_that_a_body_has_by_itself_stays() -> None:
    assert more().model_dump()["own_usd"] == "of its own"


def test_twins_are_told_and_no_fields() -> None:
    assert not {"owed_usd", "unit_usd", "late_usd"} & More.model_fields.keys()
    assert dict(more()).keys() == More.model_fields.keys()
    assert More(**more().model_dump()) == more()


def test_the_schema_of_answers_names_them_with_their_types() -> None:
    schema = More.model_json_schema(mode="serialization")
    kinds = {name: about for name, about in schema["properties"].items() if "usd" in name}
    text, nothing = {"type": "string"}, {"type": "null"}
    assert kinds["usd_per_seat_month"]["type"] == "string"
    assert kinds["late_usd"]["type"] == "string"
    assert kinds["owed_usd"]["anyOf"] == [text, nothing]
    assert kinds["input_usd_per_million"]["anyOf"] == [text, nothing]
    assert (kinds["steps_usd"]["type"], kinds["steps_usd"]["items"]) == ("array", text)
    twins = {name.replace("microusd", "usd") for name in kinds if "microusd" in name}
    assert twins <= set(schema["required"])


def test_what_is_read_has_micro_dollars_alone() -> None:
    assert not [name for name in Asked(unit_microusd=1).model_dump() if "_usd" in name]


@pytest.mark.parametrize("cap", [None, 0, 5_000_001, 10**12])
@pytest.mark.parametrize("steps", [[], [7], [1, 2_500_000]])
def test_an_answer_can_be_sent_back(cap: int | None, steps: list[int]) -> None:
    chosen = Chosen(cap_microusd=cap, steps_microusd=steps, name="x")
    for told in (chosen.model_dump(), json.loads(chosen.model_dump_json())):
        assert "cap_usd" in told
        choice = Choice.model_validate({**told, "name": "another"})
        assert (choice.cap_microusd, choice.steps_microusd, choice.name) == (cap, steps, "another")
        assert choice.model_fields_set == {"cap_microusd", "steps_microusd", "name"}
        assert choice.model_dump().keys() == {"cap_microusd", "steps_microusd", "name"}


@pytest.mark.parametrize("worth", ["5", "5.0", "5.000000", "005.00"])
def test_dollars_are_taken_by_what_they_are_worth(worth: str) -> None:
    assert Choice.model_validate({"cap_usd": worth, "cap_microusd": 5_000_000}).cap_microusd


@pytest.mark.parametrize(
    ("told", "field", "rule"),
    [
        ({"cap_microusd": 5_000_000, "cap_usd": "5.000001"}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 5_000_000, "cap_usd": None}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": None, "cap_usd": "0.000000"}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 5_000_000, "cap_usd": 5}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 5_000_000, "cap_usd": "5e0"}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 5_000_000, "cap_usd": "5_0"}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 5_000_000, "cap_usd": "٥"}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 0, "cap_usd": "9" * 5_000}, "cap_usd", "dollars_disagree"),
        ({"cap_microusd": 0, "cap_usd": ["0.000000"]}, "cap_usd", "dollars_disagree"),
        ({"cap_usd": "5.000000"}, "cap_usd", "micro_dollars_missing"),
        ({"cap_usd": None}, "cap_usd", "micro_dollars_missing"),
        ({"steps_microusd": [1], "steps_usd": []}, "steps_usd", "dollars_disagree"),
        ({"steps_microusd": [1], "steps_usd": "0.000001"}, "steps_usd", "dollars_disagree"),
        ({"steps_microusd": [1], "steps_usd": ["0.000002"]}, "steps_usd", "dollars_disagree"),
        ({"steps_microusd": [1], "step_usd": ["0.000001"]}, "step_usd", "extra_forbidden"),
        ({"steps_microusd": ["1"], "steps_usd": ["1"]}, "steps_microusd", "int_type"),
    ],
)
def test_what_disagrees_is_refused_by_its_name(told: Any, field: str, rule: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Choice.model_validate(told)
    [error] = refused.value.errors()
    assert (error["loc"][0], error["type"]) == (field, rule)
    if rule == "dollars_disagree":
        named = field.replace("usd", "microusd")
        assert rule_text(error) == f"should be worth {named}, or be left out"


def test_the_schema_of_requests_names_them_and_wants_none() -> None:
    schema = Choice.model_json_schema()
    assert schema["properties"]["cap_usd"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    steps = schema["properties"]["steps_usd"]
    assert (steps["type"], steps["items"]) == ("array", {"type": "string"})
    assert "required" not in schema


def test_answers_and_their_pages_tell_both() -> None:
    app = FastAPI()

    @app.get("/page")
    async def page() -> Page[Told]:
        return Page(data=[more(owed_microusd=-7)])

    @app.get("/set", response_model=More, response_model_exclude_unset=True)
    async def only_set() -> More:
        return more()

    client = TestClient(app)
    (told,) = client.get("/page").json()["data"]
    assert (told["owed_usd"], told["steps_usd"]) == ("-0.000007", [])
    answer = client.get("/set").json()
    assert "after" not in answer
    assert (answer["owed_microusd"], answer["owed_usd"]) == (2, "0.000002")
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"owed_microusd", "owed_usd"} <= schemas["Told"]["properties"].keys()


def test_facts_have_theirs_as_well() -> None:
    facts = {"left_microusd": -60, "price_microusd_per_month": None, "tier": "pro", "cents": 3}
    assert in_dollars(facts) == {"left_usd": "-0.000060", "price_usd_per_month": None}
    assert in_dollars({"tier": "pro"}) == {}
