"""What speech costs, against a bare proxy in the same run: `python -m bench.voice`.

With fifty hearers at once: how long is the vendor's first audio on its way to its hearer, and how
much later does it come, all in all, than without us? What does a megabyte of audio cost that is
only passed on? Beside these, what a request costs that is answered from what its user had said
before.

The bare proxy is one Envoy between client and vendor. The vendor is the simulator, which writes
into its audio when it was asked and when it sent the first byte, so that the way to the vendor is
told from the way back. Rounds alternate between the modes; medians are shown. CPU is that of our
processes, PostgreSQL and Valkey apart.

Audio comes at its own pace, so that most of a run is waiting: how long it takes is told first. A
mode that takes much longer than it has to ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from joserfc.jwk import ECKey

from bench.bare_proxy import BareProxy, bare_proxy
from bench.hearers import HeardOutcome, heard_at_rate
from bench.load import Call, NextCall, Outcome, in_flight, json_call
from bench.processes import Meter
from bench.turn import ENGINES, NOT_OURS, cores_at_hand, separate, settled, signed_in, signing_key
from tests.support.suite import Suite, running_suite

BEGAN = time.perf_counter()
USERS = 80  # the largest tier has 100 requests a minute each
VOICE = "21m00Tcm4TlvDq8ikWAM"
KEY = "bench-key-1"
FORMAT = "pcm_44100"
TOOLTIP_FORMAT = "mp3_44100_128"
# Five seconds each and ten new ones a second: fifty hearers at once, who do not all begin together.
PIECES, STEP_SECONDS = 100, 0.05
PACED = f"[[sim:chunks={PIECES},delay_ms={STEP_SECONDS * 1000:.0f},first_ms=50,stamped]] "
A_SECOND = 10
AT_ONCE = 50
SETTLED_SECONDS = 1.5
HOT = ("gateway", "voice", "egress")
WORDS = "So it is told from one to the next, and nobody knows any more who began. "


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    speeches: int
    large: int
    repeated: int

    @property
    def seconds(self) -> float:
        """What it has to take: the paced ones as long as they last, the others by experience."""
        a_round = 2 * self.paced_seconds + 2 * 0.3 * self.large + 0.02 * self.repeated
        return 30 + self.rounds * (a_round + 5 * SETTLED_SECONDS)

    @property
    def paced_seconds(self) -> float:
        """From the first request to the last audio."""
        return self.speeches / A_SECOND + PIECES * STEP_SECONDS

    def number(self, mode: str) -> int:
        """How many speeches a round of it has; 0: it is left out."""
        kinds = {"paced": self.speeches, "large": self.large, "repeated": self.repeated}
        return kinds[mode.split()[1]]

    def most_seconds(self, kind: str) -> float:
        """What a mode may take: several times what it does on a quiet machine."""
        if kind == "paced":
            return self.paced_seconds + 60
        return 60 + (3.0 * self.large if kind == "large" else 0.3 * self.repeated)


@dataclass(frozen=True, slots=True)
class Measured:
    """One mode in one round."""

    outcome: Outcome
    cpu: Mapping[str, float]

    def cpu_ms(self, *names: str) -> float:
        """CPU milliseconds a speech of the named processes; of all of ours when none is named."""
        chosen = [n for n in self.cpu if (n in names if names else n not in NOT_OURS)]
        return sum(self.cpu[name] for name in chosen) * 1000 / self.outcome.done


Runs = Mapping[str, list[Measured]]


def main() -> None:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.voice", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--speeches", type=int, default=150, help="a round and mode, paced")
    parser.add_argument("--large", type=int, default=16, help="the same, megabytes each; 0: none")
    parser.add_argument("--repeated", type=int, default=300, help="from what is kept; 0: none")
    given = parser.parse_args()
    plan = Plan(given.rounds, given.speeches, given.large, given.repeated)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        environment = {"LOG_LEVEL": "info", "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000"}
        with (
            running_suite(Path(folder), **environment) as suite,
            bare_proxy(suite.installation.ports()["simulator"]) as bare,
        ):
            separate(suite, [bare.pid], cores_at_hand())
            asyncio.run(_measure(suite, bare, plan))


async def _measure(suite: Suite, bare: BareProxy, plan: Plan) -> None:
    users = await _users(suite)
    large_text = (WORDS * 70)[:4_900]
    calls: dict[str, NextCall] = {
        "bare paced": _bare(bare, PACED + WORDS),
        "voice paced": _governed(suite, users, PACED + WORDS),
        "bare large": _bare(bare, large_text),
        "voice large": _governed(suite, users, large_text),
        "voice repeated": _governed(suite, users, WORDS, keep=True, format_=TOOLTIP_FORMAT),
    }
    megabytes = await _size(calls["bare large"]) / 1e6
    _tell(f"warming up; all of it takes about {plan.seconds:.0f} s on a quiet machine ...")
    for call in (_bare(bare, WORDS), _governed(suite, users, WORDS)):
        await _within(60, "warming up", in_flight(call, requests=60, at_once=8))
    if plan.repeated:
        kept = in_flight(calls["voice repeated"], requests=2 * USERS, at_once=8)
        await _within(90, "saying first what is repeated", kept)

    groups = {row.name: row.pid for row in suite.running.processes() if row.pid}
    runs: dict[str, list[Measured]] = {name: [] for name in calls if plan.number(name)}
    for number in range(plan.rounds):
        for name in runs:
            kind = name.split()[1]
            _tell(f"round {number + 1} of {plan.rounds}: {plan.number(name)} {name} ...")
            meter = Meter({"bare": bare.pid} if name.startswith("bare") else groups)
            load = _load(kind, calls[name], plan.number(name))
            outcome = await _within(plan.most_seconds(kind), name, load)
            # The relay and billing work after the answer; their time belongs to these speeches.
            await settled()
            runs[name].append(Measured(outcome, meter.spent()))
    _tell("done")
    print(_report(runs, megabytes))


def _tell(what: str) -> None:
    print(f"{time.perf_counter() - BEGAN:4.0f} s: {what}", file=sys.stderr, flush=True)


async def _within(seconds: float, what: str, load: Awaitable[Outcome]) -> Outcome:
    """Ends the run, by name, when this takes too long or nothing of it came through."""
    try:
        async with asyncio.timeout(seconds):
            outcome = await load
    except TimeoutError:
        raise SystemExit(f"{what}: not done within {seconds:.0f} s") from None
    if outcome.failures:
        _tell(f"{what}: failed {dict(Counter(outcome.failures))}")
    if len(outcome.first_bytes) < 2 or outcome.done < 2:
        raise SystemExit(f"{what}: nothing came through")
    return outcome


async def _load(kind: str, call: NextCall, requests: int) -> Outcome:
    if kind == "paced":
        return await heard_at_rate(call, requests=requests, per_second=A_SECOND)
    return await in_flight(call, requests=requests, at_once=4 if kind == "large" else 8)


async def _users(suite: Suite) -> list[str]:
    key = signing_key(suite)
    _tell(f"signing {USERS} users in ...")
    async with httpx.AsyncClient(base_url=suite.url, trust_env=False, timeout=30) as client:
        return [await _user(client, key) for _ in range(USERS)]


async def _user(client: httpx.AsyncClient, key: ECKey) -> str:
    for _ in range(5):
        with suppress(httpx.HTTPError):
            return await signed_in(client, key, scope="voice keys", provider="elevenlabs")
        await asyncio.sleep(1)  # what has only just come up may not be warm
    return await signed_in(client, key, scope="voice keys", provider="elevenlabs")


def _governed(
    suite: Suite, users: list[str], text: str, *, keep: bool = False, format_: str = FORMAT
) -> NextCall:
    turn = itertools.cycle(users)
    body = {"text": text, "voice_id": VOICE, "format": format_, "cache": keep}
    return lambda: json_call(f"{suite.url}/voice/speech", body, next(turn))


def _bare(bare: BareProxy, text: str) -> NextCall:
    url = f"{bare.url}/elevenlabs/v1/text-to-speech/{VOICE}/stream?output_format={FORMAT}"
    call = json_call(url, {"text": text, "model_id": "eleven_multilingual_v2"})
    return lambda: Call(call.url, call.body, {**call.headers, "xi-api-key": KEY})


async def _size(next_call: NextCall) -> int:
    call = next_call()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(call.url, content=call.body, headers=dict(call.headers))
    answer.raise_for_status()
    return len(answer.content)


def _report(runs: Runs, megabytes: float) -> str:
    lines = ["", *_first_audio(runs)]
    if "voice large" in runs:
        lines += ["", *_relayed(runs, megabytes)]
    if "voice repeated" in runs:
        lines += ["", _repeated(runs)]
    return "\n".join(lines)


def _first_audio(runs: Runs) -> list[str]:
    lines = [
        f"| first audio, {AT_ONCE} at once, {PIECES} pieces {STEP_SECONDS * 1000:.0f} ms apart "
        "| failed | until the vendor is asked, p50, p99 ms "
        "| from the vendor's first byte to the hearer, p50, p99 ms | first audio, p50, p99 ms |",
        "|---|---|---|---|---|",
    ]
    rows = {mode: _percentiles(runs[f"{mode} paced"]) for mode in ("bare", "voice")}
    for mode, row in rows.items():
        lines.append(f"| {mode} | {_failed(runs[f'{mode} paced'])} | {_cells(row)} |")
    added = [voice - bare for voice, bare in zip(rows["voice"], rows["bare"], strict=True)]
    return [*lines, f"| added | | {_cells(added)} |"]


def _percentiles(paced: list[Measured]) -> list[float]:
    """p50 and p99 of each of the three times, in milliseconds: medians of the rounds."""
    outcomes = [run.outcome for run in paced if isinstance(run.outcome, HeardOutcome)]

    def at(which: int, times: Callable[[HeardOutcome], Sequence[float]]) -> float:
        return median(each.percentile_ms(which, times(each)) for each in outcomes)

    return [
        at(which, times)
        for times in (lambda o: o.to_vendor, lambda o: o.from_vendor, lambda o: o.first_bytes)
        for which in (50, 99)
    ]


def _cells(row: Sequence[float]) -> str:
    return " | ".join(f"{p50:.2f}, {p99:.2f}" for p50, p99 in zip(row[::2], row[1::2], strict=True))


def _relayed(runs: Runs, megabytes: float) -> list[str]:
    def ms(name: str, *names: str) -> float:
        return median(run.cpu_ms(*names) for run in runs[name]) / megabytes

    yardstick = ms("bare large")
    rows = [("bare, one Envoy", yardstick, _failed(runs["bare large"]))]
    for label, names in {
        "voice alone": ("voice",),
        "gateway + egress": ("gateway", "egress"),
        "gateway + voice + egress": HOT,
        "all of ours": (),
    }.items():
        rows.append((label, ms("voice large", *names), _failed(runs["voice large"])))
    return [
        f"| speeches of {megabytes:.1f} MB as they come | failed | CPU-ms a MB | ratio to bare |",
        "|---|---|---|---|",
        *(
            f"| {label} | {failed} | {cost:.2f} | {cost / yardstick:.1f} |"
            for label, cost, failed in rows
        ),
    ]


def _repeated(runs: Runs) -> str:
    again = runs["voice repeated"]
    ours = median(run.cpu_ms() for run in again)
    voice = median(run.cpu_ms("voice") for run in again)
    engines = median(run.cpu_ms(*ENGINES) for run in again)
    p50 = median(run.outcome.percentile_ms(50) for run in again)
    return (
        f"From what is kept, {_failed(again)} failed: {ours:.2f} CPU-ms of ours a request, voice "
        f"{voice:.2f} of it, PostgreSQL and Valkey {engines:.2f}; whole answer {p50:.1f} ms at the "
        "median, 8 at once."
    )


def _failed(runs: list[Measured]) -> int:
    return sum(len(run.outcome.failures) for run in runs)


if __name__ == "__main__":
    main()
