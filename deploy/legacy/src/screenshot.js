// THE HOOK: put your Playwright in place of `takeScreenshot`.
//
// This one shows that the way is real: a headless Chromium draws the HTML that it is given. It
// follows no address: it has no network, no scripts and no files.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { unavailable } from "./problems.js";

const PATIENCE_MS = 30_000; // a cold browser on a busy machine takes half of that
// Whoever writes the page can't take it back: of several policies all hold.
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:";
const HEAD = `<!doctype html><meta charset=utf-8><meta http-equiv=Content-Security-Policy content="${POLICY}">`;
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** The picture of a page, as PNG. Throws a Problem when there is none. */
export async function takeScreenshot({ html, width, height }, browser) {
  const folder = await mkdtemp(join(tmpdir(), "screenshot-"));
  try {
    const picture = join(folder, "picture.png");
    await run(browser.program, argumentsFor({ html, width, height, folder, picture, ...browser }));
    const drawn = await readFile(picture).catch(() => Buffer.alloc(0));
    if (!drawn.subarray(0, PNG.length).equals(PNG)) throw nothingDrawn();
    return drawn;
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

const nothingDrawn = () => unavailable("screenshot_failed", "The browser has drawn nothing.", 5);

function argumentsFor({ html, width, height, folder, picture, sandboxed }) {
  return [
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    // A page may name any address, ours and the cloud's included: none is reached.
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    ...(sandboxed ? [] : ["--no-sandbox"]),
    `--user-data-dir=${join(folder, "profile")}`,
    `--window-size=${width},${height}`,
    `--screenshot=${picture}`,
    // A data URL, unlike a file, may not show other files.
    `data:text/html;charset=utf-8;base64,${Buffer.from(HEAD + html).toString("base64")}`,
  ];
}

function run(program, words) {
  return new Promise((resolve, reject) => {
    // A group of its own, so that what the browser started ends with it.
    const child = spawn(program, words, { stdio: "ignore", detached: true });
    const patience = setTimeout(() => endGroup(child.pid), PATIENCE_MS);
    child.once("error", (error) => finish(reject, error));
    child.once("exit", (code) => (code === 0 ? finish(resolve) : finish(reject, nothingDrawn())));
    function finish(settle, value) {
      clearTimeout(patience);
      if (child.pid !== undefined) endGroup(child.pid);
      settle(value);
    }
  });
}

function endGroup(pid) {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // They have ended by themselves.
  }
}
