// What was logged and has not reached the server. Every entry is kept on the device before it is sent, with
// its own time and one Idempotency-Key, so it arrives exactly once however often it is sent and from however
// many tabs. States: `waiting`; `undone`, to be deleted should it have arrived; `refused`, to be corrected.

import * as api from "./api.js";

const TABLE = "queue";
/** Seconds between tries. */
const PAUSES = [2, 5, 10, 20, 40, 60];

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

let opened = null;

function database() {
  opened ??= (async () => {
    const request = indexedDB.open("coffee-tracker", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    return settled(request);
  })().catch(() => null);
  return opened;
}

let entries = [];
/** Stands in for a table that cannot be used: by id, as long as this window. */
const memory = new Map();

/** Does `action` to the table, all of it or nothing; null when the browser has none, or fails: then it is not asked again. */
async function stored(action) {
  const file = await database();
  if (!file) return null;
  try {
    const transaction = file.transaction(TABLE, "readwrite");
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    return (await Promise.all([action(transaction.objectStore(TABLE)), ended]))[0];
  } catch {
    opened = Promise.resolve(null);
    for (const entry of entries) memory.set(entry.id, entry);
    return null;
  }
}

let tries = 0;
let timer = null;
let running = null;
const listeners = { change: [], arrival: [], undone: [] };
const channel = new BroadcastChannel("coffee-queue");

/** Calls `listener` on a "change" of what waits, on the "arrival" of an entry, and when one is "undone": here or in another tab. */
export const on = (name, listener) => listeners[name].push(listener);
/** What waits and what was refused, oldest first. */
export const all = () => entries.filter((entry) => entry.state !== "undone");
export const waiting = () => entries.filter((entry) => entry.state === "waiting");
export const refused = () => entries.filter((entry) => entry.state === "refused");
/** Will what waits outlive this window? */
export const isLasting = () => memory.size === 0;

/** Only on secure pages has `crypto` a `randomUUID`. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

/** Reads what is kept, and tells of it and of what happened. */
async function hear({ name, entry }) {
  const rows = await stored((table) => settled(table.getAll()));
  entries = [...(rows ?? memory.values())].sort((a, b) => a.added - b.added);
  // Who counts what arrived does so before it is missed among what waits.
  for (const listener of new Set([...listeners[name], ...listeners.change])) listener(entry);
}

/** Lets this tab and the others know. */
function tell(name, entry) {
  channel.postMessage({ name, entry });
  return hear({ name, entry });
}

/**
 * Changes what is kept as `id` in one step, whatever other tabs do: `edit` gets the entry, or undefined, and
 * gives the one to keep, or nothing; so does this.
 */
async function change(id, edit) {
  let next;
  const isStored = await stored(async (table) => {
    next = edit(await settled(table.get(id)));
    await settled(next ? table.put(next) : table.delete(id));
    return true;
  });
  if (!isStored) {
    next = edit(memory.get(id));
    if (next) memory.set(id, next);
    else memory.delete(id);
  }
  return next;
}

async function drop({ id }) {
  await change(id, () => null);
  await tell("change");
}

/** Keeps an entry for `route` and begins to send it; the entry, by which it can be undone. */
export async function add(route, body) {
  const entry = { id: newId(), route, body, state: "waiting", tries: 0, added: Date.now() };
  await change(entry.id, () => entry);
  await tell("change");
  flush();
  return entry;
}

/** Takes an entry back: before it leaves, or by deleting it where it has arrived. */
export async function undo(entry) {
  // Sent again under its key, it says under which id it was stored.
  const sent = { ...entry, tries: 1 };
  const left = await change(entry.id, (row = sent) => (row.tries && row.state !== "refused" ? { ...row, state: "undone" } : null));
  await tell(left ? "change" : "undone", entry);
  if (left) await flush();
}

/** Puts a corrected body in the place of one that was refused. */
export async function correct(entry, body) {
  await drop(entry);
  await add(entry.route, body);
}

/** Forgets what waits and what was refused. */
export const discard = () => Promise.all(all().map(drop));

async function send({ id }) {
  // Noted before it leaves: from now on it may have arrived.
  const entry = await change(id, (row) => row && { ...row, tries: row.tries + 1 });
  await tell("change");
  if (!entry) return;
  const { route, body } = entry;
  const arrived = await api.call("POST", route, { body, headers: { "Idempotency-Key": id } });
  const undone = await change(id, (row) => row?.state === "undone" && row);
  if (undone) {
    await api.trying(() => api.call("DELETE", `${route}${arrived.id}`), (fault) => {
      if (fault.kind !== "gone") throw fault;
    });
    await change(id, () => null);
  }
  await tell(undone ? "undone" : "arrival", entry);
}

/** Sends one after the other; the fault that ends it for now, or null. */
async function sendAll() {
  await hear({ name: "change" });
  for (;;) {
    const entry = entries.find((one) => one.state !== "refused");
    if (!entry) return null;
    const fault = await api.trying(() => send(entry), (found) => found);
    if (fault?.isPassing) return fault;
    if (fault) {
      await change(entry.id, (row) => row?.state === "waiting" && { ...row, state: "refused", problem: fault.message });
      await tell("change");
    }
  }
}

/** Sends what waits, unless that is going on already; what fails for now is tried again by itself. */
export function flush() {
  if (!api.key()) return null;
  running ??= (async () => {
    clearTimeout(timer);
    let fault = null;
    try {
      // One tab at a time, where the browser can see to it; two would do no harm.
      fault = await (navigator.locks ? navigator.locks.request("coffee-queue", sendAll) : sendAll());
    } finally {
      running = null;
    }
    if (!fault) {
      tries = 0;
      // What was added after the last look.
      if (entries.some((entry) => entry.state !== "refused")) return flush();
    } else if (fault.kind !== "key") {
      const pause = Math.max(fault.wait, PAUSES[Math.min(tries, PAUSES.length - 1)]);
      tries += 1;
      timer = setTimeout(flush, pause * 1000);
    }
    return null;
  })();
  return running;
}

/** Looks at what an earlier window left, and sends it. */
export async function start() {
  channel.onmessage = ({ data }) => hear(data);
  addEventListener("online", flush);
  document.addEventListener("visibilitychange", () => document.hidden || flush());
  await hear({ name: "change" });
  flush();
}
