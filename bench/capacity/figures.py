"""What was measured: all that the model knows. Each names its run (bench/history.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of one part, for a turn and for each piece of a streamed answer."""

    turn_ms: float
    piece_us: float = 0.0

    def ms(self, pieces: float) -> float:
        """CPU-ms of a turn whose answer comes in so many pieces; JSON is none."""
        return self.turn_ms + self.piece_us * pieces / 1000


# `bench.turn` on a quiet machine, 2026-11-28: a JSON turn, and a fiftieth of what a stream of 50
# pieces costs more. The two Envoys share their 0.70 ms and 38 µs as they do in `bench.envoy`.
CHAT = Cost(1.19, 49.2)
GATEWAY = Cost(0.34, 19.7)
EGRESS = Cost(0.36, 18.5)
KEYVAULT = Cost(0.56)
# PostgreSQL and Valkey took 1.25 ms together, and 24 µs a piece with what they idled meanwhile;
# `bench.capacity.measure` saw them apart, at 86 to 14 and 72 to 28.
POSTGRES = Cost(1.08, 17.4)
VALKEY = Cost(0.17, 6.8)

# `bench.ledger` on a quiet machine, 2026-11-30, 300,000 events: broker, worker and ledger, in
# batches of 500, with linking beside it for most of the time. The relay's part is what `bench.turn`
# leaves beside it.
EVENT_MS = 0.042
RELAY_MS = 0.17
EVENTS_A_SECOND = 43_902  # of a worker with two processes and its PostgreSQL, two cores in all

# `bench.voice`: a kept utterance costs voice 1.70 ms, and what passes through 2.60 ms a MB in all.
VOICE = Cost(1.70)
SPEECH_MB = 0.25  # about 15 s of mp3 at 128 kbit/s
SPEECH_MB_MS = 2.6

# A machine with much other work took 2.0 to 2.2 times as long for the same turn (5.18 and 5.79 ms
# against 2.67). A rented core is rather that one.
PACE = 2.0

# `python -m bench.capacity.measure`, 2026-11-28, 2,000 JSON turns: bytes that stay in a database,
# with indexes, of questions and answers of some hundred characters.
ROWS_A_TURN = 13.9
COMMITS_A_TURN = 4.4
LOG_BYTES_A_TURN = 8_500
CHAT_BYTES = 4_150
KEYVAULT_BYTES = 350
BILLING_BYTES = 640
# 12.5 MB for 2,420 answers, whose pieces are kept for 15 minutes.
VALKEY_BYTES_AN_ANSWER = 5_000
ANSWERS_KEPT_SECONDS = 900

# The same run: proportional memory (PSS) of a process with its children; chat's largest in
# `bench.turn` was 137.
MIB = {
    "auth": 96,
    "keyvault": 81,
    "chat": 101,
    "voice": 86,
    "billing": 92,
    "worker": 205,
    "relay": 67,
    "proxy": 28,
}
# A web process opens at most DATABASE_CONNECTIONS (10) at PostgreSQL; keyvault, with two engines,
# had 20 under load. A worker with one child, a beat and a relay have few.
CONNECTIONS = {"web": 10, "keyvault": 20, "worker": 3, "relay": 2, "beat": 2}


@dataclass(frozen=True, slots=True)
class Flood:
    """A round of `bench.pools` with one chat for all."""

    in_flight: int
    answers: float  # a second
    let_in: float  # of them, as turns
    others: float  # turns a second of others, which are measured
    turn_costs_refusals: float
    elsewhere_ms: float  # of such a turn when nobody floods


# To hold the model against; nothing of the model is made from these. A refusal took 0.53 and a
# turn 1.40 CPU-ms in the runs of `bench.chat` that were the least busy.
STREAMS_CORE = 0.21
ONE_POOL_FLOODED = Flood(64, 217, 22, 20, 1.40 / 0.53, 23)
ONE_POOL_TURN_MS = 695
