"""Parts of an mp3 as one: what a real decoder makes of parts that a real encoder made."""

from __future__ import annotations

import array
import itertools
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.joint import Joint, joint_for
from tests.support.mp3 import (
    CODEC_DELAY,
    Manner,
    found_at,
    frames_in,
    longest_silence,
    made_frame,
)

MANNERS = [
    Manner("mp3_44100_128", 44_100, 128),
    Manner("mp3_44100_64", 44_100, 64),
    Manner("mp3_44100_32", 44_100, 32),
    Manner("mp3_22050_32", 22_050, 32),
    Manner("mp3_24000_48", 24_000, 48),
    Manner("mp3_44100_192", 44_100, 192, channels=2),
    Manner("mp3_44100_128", 44_100, 0),
    Manner("mp3_24000_48", 24_000, 0, channels=2),
]
USUAL = MANNERS[0]
NAMES = [f"{each.format}-{each.kilobits or 'variable'}-{each.channels}" for each in MANNERS]
# As many samples more than half a second, so that each part's last frame is filled otherwise.
ENDINGS = [(0, 300, 650), (1_000, 130, 800), (470, 900, 77)]
MOST_SILENCE, LEAST_SILENCE = 0.019, -0.015  # seconds that a joint puts in, or leaves out
LEAST_UNJOINED = 0.025


def open_joint(manner: Manner, parts: int) -> Joint:
    return joint_for(AudioFormat(manner.format), parts)


def heard_of(manner: Manner, parts: list[bytes], *sizes: int) -> tuple[bytes, list[int]]:
    """What is heard, and at which sample each part begins."""
    joint, heard, begins = open_joint(manner, len(parts)), bytearray(), []
    size = itertools.cycle(sizes or (1_000,))
    for part in parts:
        at = 0
        while at < len(part):
            piece = part[at : at + next(size)]
            heard += joint.add(piece)
            at += len(piece)
        begins.append(round(joint.begins * manner.rate))
        heard += joint.end_part()
    return bytes(heard), begins


@cache
def parts_of(manner: Manner, ending: tuple[int, ...]) -> tuple[list[array.array[int]], list[bytes]]:
    """A sound cut in three, and each third encoded by itself."""
    lengths = [manner.rate // 2 + more for more in ending]
    whole = manner.noise(sum(lengths), seed=ending[0])
    bounds = [manner.channels * each for each in itertools.accumulate(lengths, initial=0)]
    sounds = [whole[start:end] for start, end in itertools.pairwise(bounds)]
    return sounds, [manner.encode(sound) for sound in sounds]


def shifts(manner: Manner, sounds: list[array.array[int]], audio: bytes) -> list[float]:
    """By how many seconds each part is later than in the sound that was cut."""
    heard = manner.decode(audio)[:: manner.channels]
    found, begins = [], 0
    for number, sound in enumerate(sounds):
        first = sound[:: manner.channels]
        middle = len(first) // 2
        expected = begins + middle + CODEC_DELAY
        margin = 200 + 2_600 * number
        at = found_at(first[middle : middle + 200], heard, expected - 900, expected + margin)
        found.append((at - expected) / manner.rate)
        begins += len(first)
    return found


@pytest.mark.parametrize("ending", ENDINGS, ids=["1", "2", "3"])
@pytest.mark.parametrize("manner", MANNERS, ids=NAMES)
def test_between_two_parts_lies_hardly_any_silence(manner: Manner, ending: tuple[int, ...]) -> None:
    sounds, parts = parts_of(manner, ending)
    heard, _ = heard_of(manner, parts, 417, 1, 1_300, 90)
    joined, unjoined = (shifts(manner, sounds, each) for each in (heard, b"".join(parts)))
    for (before, after), (before_without, after_without) in zip(
        itertools.pairwise(joined), itertools.pairwise(unjoined), strict=True
    ):
        assert LEAST_SILENCE < after - before < MOST_SILENCE
        assert after_without - before_without > LEAST_UNJOINED
    silence = longest_silence(manner.decode(heard)[CODEC_DELAY * manner.channels :][:-4_000])
    assert silence < 1.5 * MOST_SILENCE * manner.rate * manner.channels


@pytest.mark.parametrize("ending", ENDINGS, ids=["1", "2", "3"])
@pytest.mark.parametrize("manner", MANNERS, ids=NAMES)
def test_each_part_is_decoded_as_by_itself(manner: Manner, ending: tuple[int, ...]) -> None:
    _, parts = parts_of(manner, ending)
    heard, begins = heard_of(manner, parts, 3_000, 17)
    samples = manner.decode(heard)
    assert len(samples) == len(frames_in(heard)) * manner.samples * manner.channels
    for number, (part, begin) in enumerate(zip(parts, begins, strict=True)):
        alone = manner.decode(part)
        # What is left out, and 1,056 samples that a decoder makes of it and what follows.
        first = 2_304 * manner.channels if number else 0
        last = len(alone) - (1_152 * manner.channels if number < 2 else 0)
        start = begin * manner.channels
        assert samples[start + first : start + last] == alone[first:last]


@pytest.mark.parametrize("manner", [USUAL, MANNERS[3]], ids=[NAMES[0], NAMES[3]])
def test_a_part_that_ends_in_silence_loses_a_frame_of_it(manner: Manner) -> None:
    sound = manner.noise(20_000) + array.array("h", bytes(2 * 3_000))
    parts = [manner.encode(sound), manner.encode(manner.noise(20_000))]
    heard, _ = heard_of(manner, parts)
    frames = sum(len(frames_in(part)) for part in parts)
    of_delay = 1_152 // manner.samples
    assert len(frames_in(heard)) == frames - 1 - of_delay


def test_the_encoder_may_tell_its_delay() -> None:
    """What is encoded behind a frame of silence has the delay of an encoder that adds as much."""
    sounds = [USUAL.noise(20_000, seed) for seed in (1, 2)]
    silence = array.array("h", bytes(2 * 1_152))
    parts = [USUAL.encode(sounds[0]), USUAL.encode(silence + sounds[1])]
    for delay, spared in ((576 + 1_152, 2), (576, 1), (0, 1), (4_000, 1)):
        about = bytearray(made_frame())
        about[21:25] = b"Info"
        about[28] = 15
        about[141:145] = b"LAME"
        about[162:165] = (delay << 12 | 600).to_bytes(3, "big")
        heard, begins = heard_of(USUAL, [parts[0], bytes(about) + parts[1]])
        before, after = (len(frames_in(part)) for part in parts)
        assert len(frames_in(heard)) == before + after - spared
        assert begins[1] == (before - spared) * 1_152


# --- what a frame lends to the next one


def joined_frames(ending: list[bytes], beginning: list[bytes]) -> list[bytes]:
    """The last frames of one part, and the first ones of the next, as they are heard."""
    plain = [made_frame(fill=7, sound_bits=(100, 100))] * 16
    heard, _ = heard_of(USUAL, [b"".join(plain + ending), b"".join(beginning + plain)])
    frames = frames_in(heard)
    assert frames[:16] == frames[-16:] == plain
    return frames[16:-16]


LOUD = made_frame(sound_bits=(800, 800), fill=1)  # 200 bytes
PADDING = made_frame(fill=2)
DELAY = made_frame(sound_bits=(100, 100), fill=3)


def test_sound_that_stood_in_a_frame_of_delay_stands_in_the_frame_before() -> None:
    borrowing = made_frame(borrowed=150, sound_bits=(2_000, 2_000), fill=4)
    assert joined_frames([LOUD, LOUD], [DELAY, borrowing]) == [
        LOUD,
        LOUD[:-150] + DELAY[-150:],
        borrowing,
    ]
    assert joined_frames([LOUD, PADDING], [DELAY, borrowing]) == [
        LOUD[:-150] + DELAY[-150:],
        borrowing,
    ]


def test_a_frame_that_has_no_room_becomes_longer() -> None:
    borrowing = made_frame(borrowed=380, sound_bits=(2_000, 2_000), fill=4)
    _, longer, last = joined_frames([LOUD, LOUD], [DELAY, borrowing])
    assert last == borrowing
    assert (longer[2] >> 4, longer[:2], longer[3:221]) == (11, LOUD[:2], LOUD[3:221])
    assert longer[-380:] == DELAY[-380:]
    assert not any(longer[len(LOUD) : -380])


def test_what_it_borrowed_itself_leaves_room() -> None:
    lent = made_frame(sound_bits=(800, 800), borrowed=200)
    borrowing = made_frame(borrowed=396, sound_bits=(2_000, 2_000))
    _, before, last = joined_frames([LOUD, lent], [DELAY, borrowing])
    assert (before, last) == (lent[:-396] + DELAY[-396:], borrowing)


def test_a_frame_with_a_checksum_is_not_made_longer() -> None:
    loud = made_frame(sound_bits=(800, 800), has_checksum=True)
    little, much = (made_frame(borrowed=size, sound_bits=(90, 90)) for size in (150, 380))
    assert joined_frames([loud, loud], [DELAY, little])[1] == loud[:-150] + DELAY[-150:]
    # Its checksum is of the bytes before the sound.
    assert joined_frames([loud, loud], [DELAY, much]) == [loud, loud, DELAY, much]
    padding = made_frame(has_checksum=True)
    assert joined_frames([loud, padding], [DELAY, much]) == [
        loud,
        padding[:-380] + DELAY[-380:],
        much,
    ]


@pytest.mark.parametrize(
    "beginning",
    [
        [DELAY, made_frame(borrowed=398)],  # more than there was
        [DELAY, made_frame(head=(0xF3, 0xC4))],
        [DELAY, made_frame(head=(0xFB, 0x04))],
        [made_frame(head=(0xF3, 0xC4), fill=9), DELAY],
    ],
    ids=["torn", "other version", "two channels", "other version first"],
)
def test_what_does_not_fit_is_left_as_it_is(beginning: list[bytes]) -> None:
    assert joined_frames([LOUD, PADDING], beginning) == [LOUD, PADDING, *beginning]


def test_a_frame_whose_sound_is_longer_than_itself_lends_nothing() -> None:
    for bits in (4_000, 1_596):  # it has room for 397 bytes
        broken = made_frame(sound_bits=(bits, bits))
        borrowing = made_frame(borrowed=10)
        assert joined_frames([LOUD, broken], [DELAY, borrowing]) == [LOUD, broken, DELAY, borrowing]


def test_a_frame_that_can_not_be_longer_lends_nothing() -> None:
    full = made_frame(kilobits_index=14, sound_bits=(4_000, 4_000))
    borrowing = made_frame(borrowed=100)
    assert joined_frames([LOUD, full], [DELAY, borrowing]) == [LOUD, full, DELAY, borrowing]


@pytest.mark.parametrize(
    ("gain", "table", "is_heard"), [(130, 15, False), (131, 15, True), (130, 16, True)]
)
def test_a_last_frame_is_silent_by_its_gain_and_its_numbers(
    gain: int, table: int, is_heard: bool
) -> None:
    ending = made_frame(sound_bits=(0, 900), gain=gain, table=table, fill=8)
    kept = [LOUD, ending] if is_heard else [LOUD]
    assert joined_frames([LOUD, ending], [DELAY, LOUD]) == [*kept, LOUD]


# --- parts of every kind

ID3 = b"ID3\x04\0\0\0\0\0\x05hello"
TAG = b"TAG".ljust(128, b"x")
PART = made_frame(sound_bits=(500, 500), fill=5) * 20


@pytest.mark.parametrize(
    "other",
    [b"", PART[:417], PART[:834], PART[: 417 * 3], PART[:5_000], PART + b"?", PART[:-1] + TAG],
    ids=["none", "one frame", "two", "three", "cut", "more than frames", "cut before its tag"],
)
def test_nothing_is_lost_of_parts_of_other_lengths(other: bytes) -> None:
    whole = other.removesuffix(TAG)
    for size in (1, 100, 10**6):
        heard, _ = heard_of(USUAL, [PART, other, PART], size)
        at_most_left_out = 2 * 417
        assert heard.startswith(PART) or heard == PART + whole + PART
        assert len(PART + whole + PART) - len(heard) <= at_most_left_out
        assert heard.replace(b"\5", b"").count(b"?") == whole.count(b"?")


@pytest.mark.parametrize("rest", [b"?", b"\xff", PART[:100]])
def test_what_follows_on_the_frames_of_a_part_stays_behind_them(rest: bytes) -> None:
    heard, _ = heard_of(USUAL, [PART + rest, PART])
    assert heard == PART + rest + PART


def test_a_last_part_of_nothing_takes_nothing_with_it() -> None:
    assert heard_of(USUAL, [PART, b""])[0] == PART


def test_tags_between_parts_are_left_out() -> None:
    parts = [ID3 + ID3 + PART + TAG] * 3
    for size in (1, 13, 10**6):
        heard, _ = heard_of(USUAL, parts, size)
        assert heard == PART + 2 * PART[417:]


def test_a_part_of_another_sampling_rate_is_passed_on_as_it_is() -> None:
    other = Manner("mp3_44100_128", 22_050, 64)
    parts = [USUAL.encode(USUAL.noise(30_000)), other.encode(other.noise(30_000))]
    heard, _ = heard_of(USUAL, [parts[0], parts[1], parts[0]])
    assert heard == parts[0] + parts[1] + parts[0]
    joint = open_joint(USUAL, 2)
    for part in parts:
        joint.add(part)
        joint.end_part()
    expected = len(frames_in(parts[0])) * 1_152 / 44_100 + len(frames_in(parts[1])) * 576 / 22_050
    assert joint.begins == pytest.approx(expected)


def test_the_length_is_that_of_the_frames_that_are_heard() -> None:
    for manner in (USUAL, MANNERS[3]):
        _, parts = parts_of(manner, ENDINGS[1])
        joint, heard = open_joint(manner, 3), b""
        for part in parts:
            heard += joint.add(part) + joint.end_part()
        length = len(frames_in(heard)) * manner.samples / manner.rate
        assert joint.begins == pytest.approx(length)


# --- how soon


def test_a_beginning_is_heard_at_once_and_later_two_frames_are_held_back() -> None:
    joint = open_joint(USUAL, 3)
    frames = frames_in(USUAL.encode(USUAL.noise(60_000)))
    heard = [joint.add(frame) for frame in frames]
    assert heard[:15] == frames[:15]
    assert b"".join(heard) == b"".join(frames[:-2])
    assert joint.end_part() == b""
    # Of the next part the frame of delay is all that is waited for.
    assert joint.add(frames[0]) == b""
    assert joint.add(frames[1][:-1]) == b""
    assert joint.add(frames[1][-1:]).endswith(frames[1])
    assert joint.add(frames[2]) == frames[2]


@pytest.mark.parametrize(("frames", "left_out"), [(15, 0), (16, 0), (17, 1), (18, 1)])
def test_a_part_is_joined_if_its_last_frames_were_held_back(frames: int, left_out: int) -> None:
    part = PART[: 417 * frames]
    heard, _ = heard_of(USUAL, [part, PART], 417)
    assert heard == part + PART[417 * left_out :]


@pytest.mark.parametrize("size", [1, 417, 10**6])
def test_of_a_short_part_the_beginning_is_joined_all_the_same(size: int) -> None:
    short = PART[: 417 * 5]
    assert heard_of(USUAL, [PART, short], size)[0] == PART + short[417:]
    assert heard_of(USUAL, [PART, short, PART], size)[0] == PART + short[417:] + PART


def test_of_the_last_part_nothing_is_held_back() -> None:
    joint = open_joint(USUAL, 2)
    heard = joint.add(PART) + joint.end_part()
    for at in range(0, len(PART), 417):
        heard += joint.add(PART[at : at + 417])
    assert heard == PART + PART[417:]
    assert joint.end_part() == b""


def test_before_its_first_frames_a_part_probably_begins_where_it_will() -> None:
    joint = open_joint(USUAL, 2)
    joint.add(PART)
    joint.end_part()
    probably = joint.begins
    joint.add(PART)
    assert joint.begins == probably == pytest.approx(19 * 1_152 / 44_100)


# --- what is cut


def test_what_was_held_back_is_heard_when_nothing_follows_on_it() -> None:
    for parts, cuts in (([PART], PART[:100]), ([PART], b""), ([PART, PART], PART[:100])):
        joint, heard = open_joint(USUAL, 3), b""
        for part in parts:
            heard += joint.add(part) + joint.end_part()
        heard += joint.add(cuts)
        left_out = PART[417:] if len(parts) == 2 else PART
        assert heard + joint.cut() == b"".join([PART, *([left_out] * (len(parts) - 1)), cuts])


def test_a_part_that_is_cut_keeps_its_last_frames() -> None:
    joint = open_joint(USUAL, 3)
    heard = joint.add(PART + PART[:100])
    assert len(heard) == len(PART) - 2 * 417
    assert heard + joint.cut() == PART + PART[:100]
    assert joint.cut() == b""


# --- anything at all

ANYTHING = st.binary(max_size=900)
NO_FRAMES = ANYTHING.filter(lambda each: b"\xff" not in each and b"ID3" not in each).filter(
    lambda each: b"TAG" not in each
)


@settings(max_examples=100, deadline=None)
@given(st.lists(NO_FRAMES, min_size=1, max_size=4), st.integers(1, 400))
def test_what_is_no_mp3_is_passed_on_as_it_is(parts: list[bytes], size: int) -> None:
    heard, _ = heard_of(USUAL, parts, size)
    assert heard == b"".join(parts)


MADE = st.builds(
    made_frame,
    kilobits_index=st.integers(1, 14),
    borrowed=st.integers(0, 511),
    sound_bits=st.tuples(st.integers(0, 4_095), st.integers(0, 4_095)),
    gain=st.integers(0, 255),
    has_checksum=st.booleans(),
    head=st.sampled_from([(0xFB, 0xC4), (0xFB, 0x04), (0xF3, 0xC4), (0xF3, 0x04)]),
)
TORN = st.lists(
    st.one_of(MADE.map(lambda each: each * 20), MADE, ANYTHING, st.just(ID3), st.just(TAG)),
    max_size=6,
).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(TORN, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_whatever_comes_nothing_fails_and_hardly_anything_goes(
    parts: list[bytes], chance: random.Random
) -> None:
    sizes = [chance.randint(1, 2_000) for _ in range(7)]
    heard, _ = heard_of(USUAL, parts, *sizes)
    whole = sum(map(len, parts))
    left_out = sum(part.count(b"ID3") * (1 << 21) + 128 + 4 * 1_441 for part in parts)
    longer = len(parts) * 1_045
    assert whole - left_out <= len(heard) <= whole + longer
