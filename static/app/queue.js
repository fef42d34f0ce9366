// What was logged and has not reached the server. Every entry is kept on the device before it is sent, with
// its own time and one Idempotency-Key, so it arrives exactly once however often it is sent and from however
// many tabs. States: `waiting`; `undone`, to be deleted should it have arrived; `refused`, to be corrected.

import * as api from "./api.js";
import * as db from "./db.js";
import * as device from "./device.js";

const PAUSES = [2, 5, 10, 20, 40, 60];

let entries = [];
let tries = 0;
let timer = null;
let running = null;
/** Ids by which the server knows what this window sent. */
const arrived = new Map();
const listeners = new EventTarget();
const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("coffee-queue");

/** Calls `listener` with the entries whenever they change. */
export const onChange = (listener) => listeners.addEventListener("change", () => listener(entries));
/** Calls `listener` with an entry and the server's answer once it has arrived. */
export const onArrival = (listener) => listeners.addEventListener("arrival", (event) => listener(event.detail));
/** Calls `listener` with the id of an entry that is gone again. */
export const onUndone = (listener) => listeners.addEventListener("undone", (event) => listener(event.detail));
export const all = () => entries;

const tell = (name, detail) => listeners.dispatchEvent(new CustomEvent(name, { detail }));

/** Only on secure pages has `crypto` a `randomUUID`. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

async function reload() {
  entries = await db.all();
  tell("change");
}

async function keep(entry) {
  await db.put(entry);
  await reload();
  channel?.postMessage("changed");
}

async function drop(entry) {
  await db.remove(entry.id);
  await reload();
  channel?.postMessage("changed");
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
  const waiting = entries.find((entry) => entry.id === id);
  if (waiting && waiting.tries === 0) {
    await drop(waiting);
    tell("undone", { id });
    return;
  }
  const entry = waiting ?? arrived.get(id)?.entry;
  // Sent again under its key, it says under which id it was stored.
  if (entry) await keep({ ...entry, state: "undone" });
  await flush();
}

/** Puts a corrected body in the place of one that was refused. */
export async function correct(id, body) {
  const entry = entries.find((one) => one.id === id);
  if (!entry) return;
  await drop(entry);
  await add(entry.route, body);
}

export async function discard(id) {
  const entry = entries.find((one) => one.id === id);
  if (entry) await drop(entry);
}

async function send(entry) {
  // Noted before it leaves: from now on it may have arrived.
  await keep({ ...entry, tries: entry.tries + 1 });
  const headers = { "Idempotency-Key": entry.id };
  const answer = await api.call("POST", entry.route, { body: entry.body, headers });
  const current = (await db.all()).find((one) => one.id === entry.id);
  if (!current || current.state !== "undone") {
    arrived.set(entry.id, { entry, id: answer.id });
    await drop(entry);
    tell("arrival", { entry, answer });
    return;
  }
  await api.call("DELETE", `${entry.route}${answer.id}`).catch((fault) => {
    if (fault.kind !== "gone") throw fault;
  });
  arrived.delete(entry.id);
  await drop(entry);
  tell("undone", { id: entry.id, serverId: answer.id });
}

async function sendAll() {
  await reload();
  for (;;) {
    const entry = entries.find((one) => one.state !== "refused");
    if (!entry) break;
    try {
      await send(entry);
    } catch (fault) {
      if (!(fault instanceof api.Fault)) throw fault;
      if (fault.isPassing) return fault;
      if (entry.state === "undone") await drop(entry);
      else await keep({ ...entry, tries: 1, state: "refused", problem: fault.message });
    }
  }
  tries = 0;
  return null;
}

/** Sends what waits, unless that is going on already; what fails for now is tried again by itself. */
export function flush() {
  if (!device.key()) return null;
  running ??= (async () => {
    clearTimeout(timer);
    try {
      // One tab at a time, where the browser can see to it; two would do no harm.
      const alone = navigator.locks;
      const fault = alone ? await alone.request("coffee-queue", sendAll) : await sendAll();
      // Without a key nothing can be sent: signing in flushes.
      if (fault && fault.kind !== "key") {
        const pause = Math.max(fault.wait, PAUSES[Math.min(tries, PAUSES.length - 1)]);
        tries += 1;
        timer = setTimeout(flush, pause * 1000);
      }
    } finally {
      running = null;
    }
    // What was added after the last look.
    if (tries === 0 && !api.state.isLocked && entries.some((entry) => entry.state !== "refused")) return flush();
    return null;
  })();
  return running;
}

/** Looks at what an earlier window left, and sends it. */
export async function start() {
  if (channel) channel.onmessage = reload;
  addEventListener("online", flush);
  document.addEventListener("visibilitychange", () => document.hidden || flush());
  await reload();
  flush();
}
