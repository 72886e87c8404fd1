// Usage reaches billing once, whatever happens on the way.

import assert from "node:assert/strict";
import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Outbox } from "../src/outbox.js";
import { Reporter } from "../src/reporter.js";

/** Billing's answers in their order, the last one for ever; it keeps what it was told. */
async function workplace(t, ...answers) {
  const folder = await mkdtemp(join(tmpdir(), "outbox-"));
  const told = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    told.push({ token: request.headers.authorization, events: JSON.parse(body) });
    const answer = answers[Math.min(told.length, answers.length) - 1];
    if (answer === "break off") return request.socket.destroy();
    const [status, result] = answer;
    response.writeHead(status, { "retry-after": "0" });
    response.end(JSON.stringify(typeof result === "function" ? result(told.at(-1).events) : (result ?? {})));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const usageTokenFile = join(folder, "token");
  await writeFile(usageTokenFile, "ttc_first\n");
  const outbox = await Outbox.open(folder);
  const usageUrl = new URL(`http://127.0.0.1:${server.address().port}/billing/usage/events`);
  const reporter = new Reporter(outbox, { usageUrl, usageTokenFile }, () => {});
  t.after(async () => {
    await reporter.stop();
    server.closeAllConnections();
    server.close();
  });
  return { folder, told, outbox, reporter, usageTokenFile };
}

const event = (id) => ({ id, time: "2026-11-28T12:00:00Z", data: { meter: "screenshot", quantity: 1 } });
const counted = (events) => ({ accepted: events.length, duplicates: 0, held: [], rejected: [] });
const idsOf = (told) => told.map(({ events }) => events.map(({ id }) => id));

async function eventually(look) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await look()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail("it never came true");
}

const settled = ({ outbox }) => eventually(async () => (await outbox.counts()).waiting === 0);

test("what broke off, failed or was half an answer is told again under its id", async (t) => {
  const half = { accepted: 0, duplicates: 0, held: [], rejected: [] };
  const place = await workplace(t, "break off", [503], [202, half], [202, counted]);
  await place.outbox.put(event("a"));
  place.reporter.start();
  await settled(place);
  assert.deepEqual(idsOf(place.told), [["a"], ["a"], ["a"], ["a"]]);
});

test("what billing does not count stays here, with the reason", async (t) => {
  const result = { accepted: 0, duplicates: 1, held: [{ index: 1, code: "time_ahead" }], rejected: [{ index: 2, code: "id_reused" }] };
  const place = await workplace(t, [202, result]);
  for (const id of ["a", "b", "c"]) await place.outbox.put({ ...event(id), time: `2026-11-28T12:00:0${"abc".indexOf(id)}Z` });
  place.reporter.start();
  await settled(place);
  assert.deepEqual(idsOf(place.told), [["a", "b", "c"]]);
  assert.deepEqual(await place.outbox.counts(), { waiting: 0, held: 1, rejected: 1 });
});

test("new usage wakes it, and a new token is taken without a restart", async (t) => {
  const place = await workplace(t, [202, counted]);
  place.reporter.start();
  await place.outbox.put(event("a"));
  place.reporter.wake();
  await settled(place);
  await writeFile(place.usageTokenFile, "ttc_second");
  await place.outbox.put(event("b"));
  place.reporter.wake();
  await settled(place);
  assert.deepEqual(place.told.map(({ token }) => token), ["Bearer ttc_first", "Bearer ttc_second"]);
});

test("a crash leaves whole files, and neither halves nor what is no event stops the others", async (t) => {
  const place = await workplace(t, [202, counted]);
  await place.outbox.put(event("a"));
  await writeFile(join(place.folder, "waiting", ".x.json.y.unfinished"), '{"id": "half');
  await writeFile(join(place.folder, "waiting", "00000000000001-damaged.json"), '{"id": "half');
  for (const [number, text] of ["null", "[]", '"text"', "{}", "7"].entries())
    await writeFile(join(place.folder, "waiting", `0000000000000${number}-by-hand.json`), text);
  const again = await Outbox.open(place.folder);
  assert.deepEqual((await again.oldest(10)).map((one) => one.event.id), ["a"]);
  assert.equal((await readdir(join(place.folder, "waiting"))).length, 1);
  assert.deepEqual(await again.counts(), { waiting: 1, held: 0, rejected: 6 });
});
