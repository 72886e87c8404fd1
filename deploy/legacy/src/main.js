// The older service, as a process.

import { internalApp, publicApp } from "./app.js";
import { Outbox } from "./outbox.js";
import { Reporter } from "./reporter.js";
import { SettingsRefused, settingsFrom } from "./settings.js";

const DRAIN_MS = 20_000;

const log = (event, fields = {}) =>
  process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), service: "legacy", event, ...fields })}\n`);

function listening(app, port, host) {
  const server = app.listen(port, host);
  // Longer than the gateway keeps a connection (30 s), so that no request meets a closing one.
  server.keepAliveTimeout = 75_000;
  return new Promise((resolve, reject) => {
    server.once("listening", () => resolve(server));
    server.once("error", reject);
  });
}

async function main() {
  const settings = settingsFrom(process.env);
  const outbox = await Outbox.open(settings.outbox);
  const reporter = new Reporter(outbox, settings, log);
  const servers = [
    await listening(publicApp(settings, { outbox, reporter, log }), settings.port, settings.host),
    await listening(internalApp({ outbox }), settings.internalPort, settings.host),
  ];
  reporter.start();
  log("started", { ports: servers.map((server) => server.address().port) });
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => void stop(servers, reporter));
}

async function stop(servers, reporter) {
  setTimeout(() => process.exit(1), DRAIN_MS).unref();
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  await reporter.stop();
  log("stopped");
}

main().catch((error) => {
  if (!(error instanceof SettingsRefused)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
});
