// The doors: one for the gateway, one for who runs it.

import { randomUUID } from "node:crypto";
import express from "express";

import { Problem, tellProblem, unavailable } from "./problems.js";
import { takeScreenshot } from "./screenshot.js";
import { callersWith } from "./tokens.js";

const MOST_HTML = 64 * 1024; // base64 of it fits into one argument of a program
const TEXT = /^[\x20-\x7e]{1,200}$/;

/** What the gateway reaches as `/legacy/…`. */
export function publicApp(settings, { outbox, reporter, log, take = takeScreenshot }) {
  const app = express();
  app.disable("x-powered-by");
  app.use((request, response, next) => {
    request.requestId = TEXT.test(request.get("x-request-id") ?? "") ? request.get("x-request-id") : randomUUID();
    request.log = (event, fields) => log(event, { request_id: request.requestId, ...fields });
    response.set({ "X-Request-Id": request.requestId, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff" });
    next();
  });
  const places = { free: settings.screenshotsAtOnce };
  app.post("/screenshot", callersWith(settings.scope, settings), express.json({ limit: 2 * MOST_HTML }), async (request, response) => {
    const wish = readWish(request.body);
    const picture = await inPlace(places, () => take(wish, settings.browser));
    // Told before it is given: nobody has a picture that is in no outbox.
    await outbox.put(usageOf(request, settings)).catch((error) => {
      request.log("usage_not_kept", { error: error.code });
      throw unavailable("usage_not_kept", "Its usage can't be kept at the moment.", 5);
    });
    reporter.wake();
    response.type("png").send(picture);
  });
  app.use(() => {
    throw new Problem(404, "route_not_found", "There is nothing here.");
  });
  app.use(tellProblem);
  return app;
}

/** Health and the outbox, on a port that the gateway does not know. */
export function internalApp({ outbox }) {
  const app = express();
  app.disable("x-powered-by");
  app.get("/healthz", (request, response) => void response.json({ status: "alive" }));
  app.get("/readyz", async (request, response) => void response.json({ status: "ready", outbox: await outbox.counts() }));
  app.get("/metrics", async (request, response) => {
    const lines = Object.entries(await outbox.counts()).map(([state, count]) => `companion_legacy_usage{state="${state}"} ${count}\n`);
    response.type("text/plain; version=0.0.4").send(`# TYPE companion_legacy_usage gauge\n${lines.join("")}`);
  });
  return app;
}

function readWish(body) {
  const { html, width = 1280, height = 800 } = body ?? {};
  if (typeof html !== "string" || html === "") throw unreadable("html is a text of 1 to 65536 bytes.");
  if (Buffer.byteLength(html) > MOST_HTML) throw new Problem(413, "body_too_large", "html has more than 65536 bytes.");
  for (const side of [width, height])
    if (!Number.isInteger(side) || side < 16 || side > 4096) throw unreadable("width and height are 16 to 4096.");
  return { html, width, height };
}

const unreadable = (detail) => new Problem(422, "body_not_readable", detail);

/** A browser is large: more than a few at once would end all of them. */
async function inPlace(places, work) {
  if (places.free === 0) throw unavailable("busy", "All browsers are at work.", 1);
  places.free -= 1;
  try {
    return await work();
  } finally {
    places.free += 1;
  }
}

/** A CloudEvent as docs/usage-events.md describes it. Its id is made once and kept. */
function usageOf(request, { source, sandbox }) {
  return {
    specversion: "1.0",
    id: randomUUID(),
    source,
    type: "usage.reported",
    subject: request.caller.userId,
    time: new Date().toISOString(),
    data: { meter: "screenshot", quantity: 1, request_id: request.requestId, ...(sandbox && { sandbox }) },
  };
}
