// What may differ per deployment, read once at start.

import { accessSync, constants, readFileSync } from "node:fs";

/** A setting is missing or wrong; its value is never told. */
export class SettingsRefused extends Error {}

/** Throws SettingsRefused. */
export function settingsFrom(environment) {
  const gateway = address(environment, "GATEWAY_URL");
  const sandboxed = flag(environment, "SCREENSHOT_BROWSER_SANDBOX", true);
  return Object.freeze({
    port: number(environment, "LEGACY_PORT", 3000, 0, 65535),
    host: text(environment, "LEGACY_HOST", "127.0.0.1"),
    internalPort: number(environment, "LEGACY_INTERNAL_PORT", 3001, 0, 65535),
    jwksUrl: environment.JWKS_URL ? address(environment, "JWKS_URL") : new URL("/.well-known/jwks.json", gateway),
    issuer: text(environment, "TOKEN_ISSUER", "https://companion.invalid/auth"),
    audience: text(environment, "TOKEN_AUDIENCE", "companion"),
    scope: text(environment, "LEGACY_SCOPE", "chat"),
    // Usage goes through the gateway, which exchanges the personal token; billing never sees it.
    usageUrl: new URL("/billing/usage/events", gateway),
    usageTokenFile: readable(environment, "USAGE_TOKEN_FILE"),
    source: text(environment, "USAGE_SOURCE", "/legacy/screenshots"),
    outbox: text(environment, "USAGE_OUTBOX"),
    sandbox: flag(environment, "SANDBOX", false),
    browser: Object.freeze({ program: program(environment, "SCREENSHOT_BROWSER"), sandboxed }),
    screenshotsAtOnce: number(environment, "SCREENSHOTS_AT_ONCE", 2, 1, 64),
  });
}

function text(environment, name, otherwise) {
  const value = environment[name] || otherwise;
  if (value === undefined) throw new SettingsRefused(`${name} is not set.`);
  return value;
}

function number(environment, name, otherwise, least, most) {
  const value = environment[name] || String(otherwise);
  if (!/^[0-9]{1,9}$/.test(value) || Number(value) < least || Number(value) > most)
    throw new SettingsRefused(`${name} is no number from ${least} to ${most}.`);
  return Number(value);
}

function flag(environment, name, otherwise) {
  const value = (environment[name] || String(otherwise)).toLowerCase();
  if (["1", "true", "yes", "on"].includes(value)) return true;
  if (["0", "false", "no", "off"].includes(value)) return false;
  throw new SettingsRefused(`${name} is neither 1 nor 0.`);
}

function address(environment, name) {
  const value = text(environment, name);
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
    throw new SettingsRefused(`${name} is no http or https URL.`);
  return new URL(value);
}

function readable(environment, name) {
  const file = text(environment, name);
  try {
    if (readFileSync(file, "utf8").trim() !== "") return file;
  } catch {
    throw new SettingsRefused(`${name} names a file that can't be read.`);
  }
  throw new SettingsRefused(`${name} names a file with nothing in it.`);
}

function program(environment, name) {
  const file = text(environment, name);
  try {
    accessSync(file, constants.X_OK);
  } catch {
    throw new SettingsRefused(`${name} names no program that can be run.`);
  }
  return file;
}
