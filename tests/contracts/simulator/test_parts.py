"""The parts that need no server: answers, options, audio and the ledger's bounds."""

import io
import wave
from typing import Any

import pytest

from tests.support.simulator.answers import Ask, answer, write_script
from tests.support.simulator.audio import clip_for
from tests.support.simulator.delivery import halves
from tests.support.simulator.keys import Verdict, judge
from tests.support.simulator.ledger import Ledger
from tests.support.simulator.options import Options, UnknownOption, checked, read_directives
from tests.support.simulator.tools import sample


def test_directives_are_read_and_taken_out() -> None:
    said, options = read_directives("hi [[sim:chunks=5,delay_ms=10]]there[[sim:cut]]")
    assert said == "hi there"
    assert options == {"chunks": "5", "chunk_delay_ms": "10", "fault": "cut"}
    assert read_directives("[[sim:fault=slow_first_byte]]")[1] == {"first_byte_delay_ms": "2000"}
    assert read_directives("[[sim:fault=slow_first_byte,first_ms=5]]")[1] == {
        "first_byte_delay_ms": "5"
    }
    assert read_directives("[[sim:block]]")[1] == {"block": "SAFETY"}
    with pytest.raises(UnknownOption):
        read_directives("[[sim:colour=red]]")


def test_a_fault_outranks_a_default_and_a_directive_both() -> None:
    assert checked({"chunks": 3}).over({"chunks": "9", "at": "1"}) == {"chunks": "3", "at": "1"}


@pytest.mark.parametrize(("chunks", "pieces"), [(0, 4), (2, 2), (4, 4), (50, 50)])
def test_a_text_comes_in_as_many_pieces_as_asked(chunks: int, pieces: int) -> None:
    script = write_script("You said: good morning", chunks, None, ())
    assert len(script.pieces) == pieces
    assert "".join(script.pieces) == script.text
    assert script.tokens == max(4, chunks)


def test_a_cap_counts_words_before_they_are_joined() -> None:
    script = write_script("one two three four", 2, 3, ())
    assert (script.text, script.finish, len(script.pieces)) == ("one two three", "length", 2)


def test_the_first_stop_wins() -> None:
    script = write_script("one two three", 0, None, ("three", "two"))
    assert (script.text, script.stop_sequence) == ("one", "two")


def test_an_empty_prompt_is_answered_too() -> None:
    assert answer(Ask("  ", 0), Options()).script.text == "You said nothing."


def test_made_up_values_fit_their_schema() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "list": {"type": "array", "items": {"type": "INTEGER"}},
            "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "other": {"$ref": "#/$defs/Other"},
        },
        "$defs": {"Other": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}}},
    }
    assert sample(schema, "said") == {
        "text": "said",
        "kind": "a",
        "list": [1],
        "either": True,
        "other": {"x": 1.5},
    }
    endless = {"$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}, "$ref": "#/$defs/A"}
    assert sample(endless, "")


def test_a_frame_is_split_inside_a_character() -> None:
    first, rest = halves("ab漢c".encode())
    assert first == b"ab\xe6"
    assert (first + rest).decode() == "ab漢c"
    assert halves(b"abcd") == (b"ab", b"cd")


def test_a_wav_can_be_opened() -> None:
    with wave.open(io.BytesIO(clip_for("wav_16000", 50).whole())) as opened:
        assert opened.getnframes() / opened.getframerate() == 2.0
        assert (opened.getnchannels(), opened.getsampwidth()) == (1, 2)


def test_every_frame_of_an_mp3_starts_where_the_last_ended() -> None:
    clip = clip_for("mp3_44100_128", 100)
    audio, length = clip.whole(), 144 * 128_000 // 44_100
    assert len(audio) == length * len(clip.frames)
    assert all(audio[at : at + 2] == b"\xff\xfb" for at in range(0, len(audio), length))
    assert abs(clip.seconds - 4) < 0.03


def test_a_clip_is_repeated_when_it_has_too_few_frames() -> None:
    assert len(clip_for("pcm_8000", 1).pieces(50)) == 50
    assert (
        b"".join(clip_for("opus_48000_32", 20).pieces(5)) == clip_for("opus_48000_32", 20).whole()
    )


def test_the_ledger_forgets_the_oldest() -> None:
    ledger = Ledger(capacity=2)
    for _ in range(3):
        ledger.open("openai", "/v1/responses", "")
    assert [served.number for served in ledger] == [2, 3]


@pytest.mark.parametrize(
    ("key", "reads", "generates"),
    [
        ("sim-key-1", Verdict.GOOD, Verdict.GOOD),
        (None, Verdict.MISSING, Verdict.MISSING),
        ("sim-limited", Verdict.LIMITED, Verdict.LIMITED),
        ("sim-limited-read", Verdict.LIMITED, Verdict.GOOD),
        ("sim-noquota-generate", Verdict.GOOD, Verdict.NO_QUOTA),
        ("sim-unreachable-reset", Verdict.RESET, Verdict.RESET),
        ("sim-unreachable", Verdict.UNREACHABLE, Verdict.UNREACHABLE),
    ],
)
def test_keys_are_judged_by_their_words(
    key: str | None, reads: Verdict, generates: Verdict
) -> None:
    assert judge(key, generates=False) is reads
    assert judge(key, generates=True) is generates
