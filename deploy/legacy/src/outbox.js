// Usage that billing has not taken yet, as one file each. What is here survives a crash.
//
//     waiting/   to be told, oldest first
//     held/      billing keeps it and does not count it; put right and moved to waiting/, it is told again
//     rejected/  billing has not kept it
//
// Two processes may share the folder: both tell the same, and billing counts an id once.

import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

const FOLDERS = ["waiting", "held", "rejected"];
const UNFINISHED = /^\..*\.unfinished$/;

export class Outbox {
  constructor(folder) {
    this.folder = folder;
  }

  static async open(folder) {
    const outbox = new Outbox(folder);
    for (const name of FOLDERS) await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
    await sync(folder);
    for (const name of await readdir(outbox.#of("waiting")))
      // Its writer died before it answered anybody.
      if (UNFINISHED.test(name)) await rm(join(outbox.#of("waiting"), name), { force: true });
    return outbox;
  }

  /** Keep an event. Once this returns, it is on the disk under its name. */
  async put(event) {
    const name = `${String(Date.parse(event.time)).padStart(14, "0")}-${randomUUID()}.json`;
    await this.#write("waiting", name, event);
  }

  /** The oldest events, each with the name that `told` and `setAside` take. */
  async oldest(most) {
    const names = (await this.#names("waiting")).sort().slice(0, most);
    const found = await Promise.all(names.map((name) => this.#read(name)));
    return found.filter((one) => one !== undefined);
  }

  async told(name) {
    await rm(join(this.#of("waiting"), name), { force: true });
  }

  /** `folder` is held or rejected; what billing said of it is kept beside it. */
  async setAside(folder, { name, event }, trouble) {
    await this.#write(folder, name, { ...event, trouble });
    await this.told(name);
  }

  async counts() {
    const counted = FOLDERS.map(async (name) => [name, (await this.#names(name)).length]);
    return Object.fromEntries(await Promise.all(counted));
  }

  #of(name) {
    return join(this.folder, name);
  }

  async #names(folder) {
    return (await readdir(this.#of(folder))).filter((name) => !name.startsWith(".") && name.endsWith(".json"));
  }

  async #read(name) {
    const place = join(this.#of("waiting"), name);
    let text;
    try {
      text = await readFile(place, "utf8");
    } catch (error) {
      if (error.code === "ENOENT") return undefined; // Another process has told it.
      throw error;
    }
    const { trouble, ...event } = eventIn(text) ?? {};
    if (event.id !== undefined) return { name, event };
    // Somebody has put it here by hand. It must not stop the others.
    await rename(place, join(this.#of("rejected"), name));
    return undefined;
  }

  async #write(folder, name, event) {
    const unfinished = join(this.#of(folder), `.${name}.${randomUUID()}.unfinished`);
    const file = await open(unfinished, "wx", 0o600);
    try {
      await file.writeFile(JSON.stringify(event));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, join(this.#of(folder), name));
    // The name, too, must outlast a loss of power.
    await sync(this.#of(folder));
  }
}

function eventIn(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function sync(folder) {
  const directory = await open(folder);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
