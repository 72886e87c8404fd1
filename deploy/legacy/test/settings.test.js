// A wrong setting stops the start with one sentence that names it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { settingsFrom } from "../src/settings.js";

const WHOLE = {
  GATEWAY_URL: "http://gateway:8080",
  USAGE_TOKEN_FILE: new URL("../package.json", import.meta.url).pathname,
  USAGE_OUTBOX: "/tmp",
  SCREENSHOT_BROWSER: process.execPath,
};

test("it reads what is set and knows the rest", () => {
  const settings = settingsFrom({ ...WHOLE, LEGACY_PORT: "0" });
  assert.equal(settings.usageUrl.href, "http://gateway:8080/billing/usage/events");
  assert.equal(settings.jwksUrl.href, "http://gateway:8080/.well-known/jwks.json");
  assert.equal(settings.port, 0);
  assert.equal(settings.browser.sandboxed, true);
});

for (const [name, value] of [
  ...Object.keys(WHOLE).map((missing) => [missing, ""]),
  ["LEGACY_PORT", "70000"],
  ["SANDBOX", "perhaps"],
  ["JWKS_URL", "file:///etc/passwd"],
  ["USAGE_TOKEN_FILE", "/nowhere/secret"],
  ["SCREENSHOT_BROWSER", "/nowhere/browser"],
])
  test(`${name} = ${JSON.stringify(value)} is refused`, () => {
    assert.throws(() => settingsFrom({ ...WHOLE, [name]: value }), (error) => {
      assert.match(error.message, new RegExp(`^${name} `));
      return value === "" || !error.message.includes(value);
    });
  });
