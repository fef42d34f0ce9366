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
/** Stands in for IndexedDB where that is refused. */
const memory = new Map();

function database() {
  opened ??= (async () => {
    const request = indexedDB.open("coffee-tracker", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    return settled(request);
  })().catch(() => null);
  return opened;
}

/** Does `action` to the table, or to what stands in for it. */
async function stored(action, instead) {
  const file = await database();
  return file ? settled(action(file.transaction(TABLE, "readwrite").objectStore(TABLE))) : instead();
}

let entries = [];
let tries = 0;
let timer = null;
let running = null;
/** By the id of an entry that this window sent: the entry. */
const arrived = new Map();
const listeners = { change: [], arrival: [], undone: [] };
const channel = new BroadcastChannel("coffee-queue");

/** Calls `listener` on a "change" of what waits, on the "arrival" of an entry, and when one is "undone". */
export const on = (name, listener) => listeners[name].push(listener);
/** What waits and what was refused, oldest first. */
export const all = () => entries.filter((entry) => entry.state !== "undone");
export const waiting = () => entries.filter((entry) => entry.state === "waiting");
export const refused = () => entries.filter((entry) => entry.state === "refused");

function tell(name, entry) {
  for (const listener of listeners[name]) listener(entry);
}

/** Only on secure pages has `crypto` a `randomUUID`. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

async function reload() {
  const rows = await stored((table) => table.getAll(), () => [...memory.values()]);
  entries = rows.sort((a, b) => a.added - b.added);
  tell("change");
}

async function keep(entry) {
  await stored((table) => table.put(entry), () => memory.set(entry.id, entry));
  await reload();
  channel.postMessage("change");
}

async function drop({ id }) {
  await stored((table) => table.delete(id), () => memory.delete(id));
  await reload();
  channel.postMessage("change");
}

/** Keeps an entry for `route` and begins to send it; its id, by which it can be undone. */
export async function add(route, body) {
  const entry = { id: newId(), route, body, state: "waiting", tries: 0, added: Date.now() };
  await keep(entry);
  flush();
  return entry.id;
}

/** Takes an entry back: before it leaves, or by deleting it where it has arrived. */
export async function undo(id) {
  const entry = entries.find((one) => one.id === id) ?? arrived.get(id);
  if (!entry) return;
  if (entry.tries === 0 || entry.state === "refused") {
    await drop(entry);
    tell("undone", entry);
    return;
  }
  // Sent again under its key, it says under which id it was stored.
  await keep({ ...entry, state: "undone" });
  await flush();
}

/** Puts a corrected body in the place of one that was refused. */
export async function correct(entry, body) {
  await drop(entry);
  await add(entry.route, body);
}

async function send(entry) {
  // Noted before it leaves: from now on it may have arrived.
  const sent = { ...entry, tries: entry.tries + 1 };
  await keep(sent);
  const { id } = await api.call("POST", entry.route, { body: entry.body, headers: { "Idempotency-Key": entry.id } });
  const isUndone = entries.some((one) => one.id === entry.id && one.state === "undone");
  if (isUndone) {
    await api.trying(() => api.call("DELETE", `${entry.route}${id}`), (fault) => {
      if (fault.kind !== "gone") throw fault;
    });
    arrived.delete(entry.id);
  } else {
    arrived.set(entry.id, sent);
  }
  await drop(entry);
  tell(isUndone ? "undone" : "arrival", entry);
}

/** Sends one after the other; the fault that ends it for now, or null. */
async function sendAll() {
  await reload();
  for (;;) {
    const entry = entries.find((one) => one.state !== "refused");
    if (!entry) return null;
    const fault = await api.trying(() => send(entry), (found) => found);
    if (fault?.isPassing) return fault;
    if (fault && entry.state === "undone") await drop(entry);
    else if (fault) await keep({ ...entry, state: "refused", problem: fault.message });
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
  channel.onmessage = reload;
  addEventListener("online", flush);
  document.addEventListener("visibilitychange", () => document.hidden || flush());
  await reload();
  flush();
}
