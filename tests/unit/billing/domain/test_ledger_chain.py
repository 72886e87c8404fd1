"""The arithmetic of the ledger's chains."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from services.billing.domain.ledger_chain import (
    CORRECTIONS,
    ENTRY_FIELDS,
    MARK_BYTES,
    RATING_FIELDS,
    ChainWalk,
    Digests,
    chain_name,
    chain_of,
    chain_on,
    continued,
    digest,
    genesis,
    link,
    marked_on,
)
from shared.chain import Head
from tests.support.billing import id_made_at

CHAIN = 20_000
RECORDS = {
    id_: {"event_id": id_, "cost_microusd": cost, "price_version": "list/1", "rated_at": at}
    for id_, cost, at in (
        (UUID(int=number), number * 100, datetime(2026, 11, 24, tzinfo=UTC)) for number in (1, 2, 3)
    )
}
DIGESTS = [Digests("l", [id_], digest("l", record)) for id_, record in RECORDS.items()]


def walked(known: Head | None = None, *, runs: tuple[int, ...] = (3,)) -> ChainWalk:
    walk, head, rest = ChainWalk(CHAIN, known), genesis(CHAIN), list(DIGESTS)
    for length in runs:
        links = continued(CHAIN, head, rest[:length])
        head, rest = links.head, rest[length:]
        walk.follow(links, RECORDS)
    walk.finish()
    return walk


def test_a_chain_is_the_same_in_whatever_runs_it_was_made() -> None:
    assert walked().head == walked(runs=(1, 2)).head == walked(runs=(2, 1)).head
    assert walked().broken is None
    assert walked().head.sequence == 3
    whole = Digests("lll", list(RECORDS), b"".join(one.digests for one in DIGESTS))
    assert continued(CHAIN, genesis(CHAIN), [whole]) == continued(CHAIN, genesis(CHAIN), DIGESTS)


def test_marks_give_the_links_that_their_records_give() -> None:
    links = continued(CHAIN, genesis(CHAIN), DIGESTS)
    marks = [some.marks for some in DIGESTS]
    assert [len(some) for some in marks] == [MARK_BYTES] * 3
    for batches in (marks, [b"".join(marks)], [marks[0], b"".join(marks[1:])]):
        run = marked_on(CHAIN, genesis(CHAIN), batches)
        assert (run.chain, run.first, run.kinds, run.links) == (CHAIN, 1, "lll", links.links)
        assert run.head == links.head
    expected, before = [], genesis(CHAIN).mac
    for some in DIGESTS:
        before = link(before, "l", some.digests)
        expected.append(before)
    assert links.links == b"".join(expected)
    later = marked_on(CHAIN, Head(1, expected[0]), marks[1:])
    assert (later.first, later.links) == (2, b"".join(expected[1:]))


def test_an_earlier_head_is_met_again_or_missed() -> None:
    head = walked(runs=(2,)).head
    assert walked(head).broken is None
    assert walked(walked().head).broken is None
    other = walked(Head(2, bytes(32))).broken
    later = walked(Head(4, bytes(32))).broken
    assert other is not None
    assert "written anew" in other.what
    assert later is not None
    assert "cut off" in later.what


def test_the_first_record_that_was_changed_or_is_gone_is_named() -> None:
    links = continued(CHAIN, genesis(CHAIN), DIGESTS)
    second = UUID(int=2)
    changed = {**RECORDS, second: {**RECORDS[second], "cost_microusd": 201}}
    gone = {id_: record for id_, record in RECORDS.items() if id_ != second}
    for records, words in ((changed, "does not fit its record"), (gone, "is missing")):
        walk = ChainWalk(CHAIN)
        walk.follow(links, records)
        assert walk.broken is not None
        assert words in walk.broken.what
        assert (walk.broken.chain, walk.broken.sequence, walk.broken.id) == (CHAIN, 2, second)
        assert walk.head.sequence == 1


def test_a_run_of_links_that_is_not_the_next_or_not_whole_is_no_part_of_the_chain() -> None:
    links = continued(CHAIN, genesis(CHAIN), DIGESTS)
    for odd in (
        continued(CHAIN, walked(runs=(1,)).head, DIGESTS[1:]),
        replace(links, kinds="ll"),
        replace(links, links=links.links[:-1]),
        replace(links, kinds="xll"),
    ):
        walk = ChainWalk(CHAIN)
        walk.follow(odd, RECORDS)
        assert walk.broken is not None
        assert (walk.broken.sequence, walk.head.sequence) == (1, 0)
        is_odd_kind = odd.kinds[0] == "x"
        assert walk.broken.id == (UUID(int=1) if is_odd_kind else None)
        words = "Link 1 is of no known kind." if is_odd_kind else "Link 1 is missing or unreadable."
        assert walk.broken.what == words


def test_the_first_break_is_the_one_that_is_told() -> None:
    walk = ChainWalk(CHAIN, known=Head(9, bytes(32)))
    links = continued(CHAIN, genesis(CHAIN), DIGESTS)
    walk.follow(links, {})
    first = walk.broken
    walk.follow(links, RECORDS)
    walk.follow(continued(CHAIN, Head(7, bytes(32)), DIGESTS), RECORDS)
    walk.finish()
    assert first is not None
    assert (walk.broken, walk.head) == (first, genesis(CHAIN))


def test_nothing_and_an_empty_text_are_not_the_same() -> None:
    rating = next(iter(RECORDS.values()))
    unknown, empty = (digest("l", rating | {"price_version": text}) for text in (None, ""))
    assert unknown != empty


def test_no_two_chains_begin_alike() -> None:
    assert genesis(1) != genesis(2)


def test_an_id_belongs_to_the_chain_of_its_day() -> None:
    last = id_made_at(datetime(2026, 11, 24, 23, 59, 59, 999000, UTC))
    assert chain_of(last) == chain_on(date(2026, 11, 24))
    assert chain_name(chain_of(last)) == "2026-11-24"
    assert chain_name(CORRECTIONS) == "corrections"
    assert chain_name(chain_of(UUID(int=(2**48 - 1) << 80))).startswith("day ")


def test_digests_are_told_apart_by_the_day_of_their_ids() -> None:
    days = [datetime(2026, 11, day, hour, tzinfo=UTC) for day, hour in ((24, 0), (24, 23), (26, 5))]
    ids = [id_made_at(day) for day in days]
    chains = Digests("rel", ids, b"a" * 32 + b"b" * 32 + b"c" * 32).by_chain()
    first, last = chain_on(days[0].date()), chain_on(days[2].date())
    assert chains == {
        first: Digests("re", ids[:2], b"a" * 32 + b"b" * 32),
        last: Digests("l", ids[2:], b"c" * 32),
    }


def an_entry() -> dict[str, Any]:
    """Any entry, with another value in each field."""
    return {
        name: {
            "uuid": UUID(int=number + 1),
            "text": f"text {number}",
            "bigint": number,
            "boolean": True,
            "timestamptz": datetime(2026, 11, 24, 12, number, tzinfo=UTC),
        }[kind]
        for number, (name, kind) in enumerate((*ENTRY_FIELDS, *RATING_FIELDS))
    }


@pytest.mark.parametrize(
    ("kind", "digest_of_before"),
    [
        ("e", "e7f0582d1a6ae3fa40b6a998b8b7b45171255e3f1f8e3637d80b99bc9699c658"),
        ("r", "a4c46fa3bbc18228875fd041201ec1f2b7a57fc81bc2e1e54042c1bc8ae20181"),
    ],
)
def test_links_of_before_it_was_known_whose_key_served_hold_as_they_are(
    kind: str, digest_of_before: str
) -> None:
    entry = an_entry()
    assert digest(kind, entry).hex() == digest_of_before
    assert digest(kind, entry | {"key_organisation_id": None}).hex() == digest_of_before
    firm = digest(kind, entry | {"key_organisation_id": UUID(int=70)})
    other = digest(kind, entry | {"key_organisation_id": UUID(int=71)})
    assert len({digest_of_before, firm.hex(), other.hex()}) == 3


def test_a_later_ratings_link_is_about_the_rating_alone() -> None:
    rating = next(iter(RECORDS.values()))
    assert digest("l", rating) == digest("l", rating | {"key_organisation_id": UUID(int=70)})
