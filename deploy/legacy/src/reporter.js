// Tells billing what waits in the outbox, until billing says that it stands in the ledger.

import { readFile } from "node:fs/promises";

const MOST_AT_ONCE = 500;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

export class Reporter {
  #wake = () => {};
  #end = () => {};
  #woken = false;
  #stopped = false;
  #running = Promise.resolve();
  #pause = FIRST_PAUSE_MS;

  constructor(outbox, { usageUrl, usageTokenFile }, log) {
    Object.assign(this, { outbox, usageUrl, usageTokenFile, log });
  }

  start() {
    this.#running = this.#run();
  }

  /** There is something new. */
  wake() {
    this.#woken = true;
    this.#wake();
  }

  /** Ends after the report under way. What waits is told after the next start. */
  async stop() {
    this.#stopped = true;
    this.#end();
    await this.#running;
  }

  async #run() {
    while (!this.#stopped) {
      this.#woken = false;
      try {
        if (await this.#tellOldest()) continue;
        if (!this.#woken) await this.#sleep(LONGEST_PAUSE_MS, { untilWoken: true });
      } catch (failure) {
        this.log("usage_not_told", { reason: failure.message });
        // New usage is no reason to ask sooner.
        await this.#sleep(failure.retryAfterMs ?? this.#pause * (0.5 + Math.random()));
        this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
      }
    }
  }

  async #sleep(milliseconds, { untilWoken = false } = {}) {
    if (this.#stopped) return;
    let timer;
    await new Promise((resolve) => {
      this.#end = resolve;
      if (untilWoken) this.#wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
    this.#wake = () => {};
  }

  /** Whether there was anything to tell. Throws when billing has not taken it. */
  async #tellOldest() {
    const batch = await this.outbox.oldest(MOST_AT_ONCE);
    if (batch.length === 0) return false;
    const result = await this.#send(batch.map(({ event }) => event));
    await this.#settle(batch, result);
    this.#pause = FIRST_PAUSE_MS;
    return true;
  }

  async #send(events) {
    // Read each time: an operator may have put a new one in its place.
    const token = (await readFile(this.usageTokenFile, "utf8")).trim();
    const answer = await fetch(this.usageUrl, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/cloudevents-batch+json" },
      body: JSON.stringify(events),
      redirect: "error",
      signal: AbortSignal.timeout(10_000),
    }).catch((error) => {
      throw new Error(error.name === "TimeoutError" ? "no answer" : "not reached");
    });
    const body = await answer.json().catch(() => ({}));
    if (answer.status === 202 && isWhole(body, events.length)) return body;
    throw Object.assign(new Error(`${answer.status} ${String(body.code ?? "").slice(0, 100)}`.trim()), {
      retryAfterMs: retryAfter(answer),
    });
  }

  async #settle(batch, { accepted, duplicates, held, rejected }) {
    const aside = new Map([
      ...held.map((one) => [one.index, ["held", one]]),
      ...rejected.map((one) => [one.index, ["rejected", one]]),
    ]);
    for (const [index, one] of batch.entries()) {
      const [folder, trouble] = aside.get(index) ?? [];
      if (folder === undefined) await this.outbox.told(one.name);
      else await this.outbox.setAside(folder, one, { code: trouble.code, detail: trouble.detail });
    }
    this.log("usage_told", { accepted, duplicates, held: held.length, rejected: rejected.length });
  }
}

/** Whether the answer says of each event what became of it. Else all are told again: their ids make that safe. */
function isWhole({ accepted, duplicates, held, rejected }, count) {
  if (!Array.isArray(held) || !Array.isArray(rejected)) return false;
  const indexes = [...held, ...rejected].map((one) => one?.index);
  return (
    indexes.every((index) => Number.isInteger(index) && index >= 0 && index < count) &&
    new Set(indexes).size === indexes.length &&
    accepted + duplicates + indexes.length === count
  );
}

function retryAfter(answer) {
  const seconds = Number(answer.headers.get("retry-after") ?? NaN);
  return seconds >= 0 ? Math.min(seconds, 300) * 1000 + Math.random() * 500 : undefined;
}
