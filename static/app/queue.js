// Offline queue of new entries. Every entry is stored on the device before it is sent, with its own time and
// Idempotency-Key, so that it is logged exactly once no matter how often and from how many tabs it is sent. It
// belongs to the person whose API key it was made with, and is neither shown nor sent with another person's.

import * as api from "./api.js";
import * as session from "./session.js";

const TABLE = "queue";
/** Seconds between retries. */
const RETRY_DELAYS = [2, 5, 10, 20, 40, 60];
/**
 * States of an entry: to be sent; undone, to be deleted if it has reached the server; rejected by the server,
 * to be edited. The values are stored on devices and must not change.
 */
const STATE = { pending: "waiting", undone: "undone", rejected: "refused" };

const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

let databasePromise = null;

function database() {
  databasePromise ??= (async () => {
    const request = indexedDB.open("coffee-tracker", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    return result(request);
  })().catch(() => null);
  return databasePromise;
}

/** Entries of the present person. */
let entries = [];
let otherCount = 0;
/** Entries by id while IndexedDB cannot be used: kept as long as this window is open. */
const memory = new Map();

/**
 * Runs `action` on the table in one transaction; null if the browser has no IndexedDB or it fails. After a
 * failure it is not used again.
 */
async function inTransaction(action) {
  const connection = await database();
  if (!connection) return null;
  try {
    const transaction = connection.transaction(TABLE, "readwrite");
    const completed = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    return (await Promise.all([action(transaction.objectStore(TABLE)), completed]))[0];
  } catch {
    databasePromise = Promise.resolve(null);
    for (const entry of entries) memory.set(entry.id, entry);
    return null;
  }
}

let retries = 0;
let retryTimer = null;
let currentFlush = null;
const listeners = { change: [], arrival: [], undone: [] };
const channel = new BroadcastChannel("coffee-queue");

/** Subscribes to an event of this or another tab: "change" of the queue, "arrival" of an entry on the server, "undone". */
export const on = (name, listener) => listeners[name].push(listener);
/** Pending and rejected entries, oldest first. */
export const all = () => entries.filter((entry) => entry.state !== STATE.undone);
export const pending = () => entries.filter((entry) => entry.state === STATE.pending);
export const rejected = () => entries.filter((entry) => entry.state === STATE.rejected);
/** Returns the number of pending and rejected entries of other people, or of other keys if it is not known whose they are. */
export const countOfOtherKeys = () => otherCount;
/** Reports whether pending entries outlive this window. */
export const isPersistent = () => memory.size === 0;

/** `crypto.randomUUID` exists only in secure contexts. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

/** Reports whether an entry was made with the present key or with another one of the same person. */
function isOwn({ owner, person }) {
  if (!session.isSignedIn()) return false;
  const name = session.personName();
  // Entries of version 1.0.0 name no key. They belong to the owner of the server, who was its only person.
  if (!owner) return name === null || name === "owner";
  return owner === session.owner() || (Boolean(person) && person === name);
}

/** Reports whether an entry of another person waits to be sent. */
const isOthers = (entry) => !isOwn(entry) && entry.state !== STATE.undone;

/** Returns the stored entries of every key. */
const allRows = async () => (await inTransaction((table) => result(table.getAll()))) ?? [...memory.values()];

/** Reloads the entries and calls the listeners of an event. */
async function dispatch({ name, entry }) {
  const rows = (await allRows()).sort((a, b) => a.added - b.added);
  entries = rows.filter(isOwn);
  otherCount = rows.filter(isOthers).length;
  if (entry && !isOwn(entry)) return;
  // Listeners of the event run first: an arrived entry is counted before it disappears from the pending ones.
  for (const listener of new Set([...listeners[name], ...listeners.change])) listener(entry);
}

/** Dispatches an event in this tab and the others. */
function broadcast(name, entry) {
  channel.postMessage({ name, entry });
  return dispatch({ name, entry });
}

/**
 * Updates the stored entry `id` atomically, also across tabs: `edit` gets the entry or undefined and returns
 * the entry to store, or a falsy value to delete it. Returns what `edit` returned.
 */
async function update(id, edit) {
  let next;
  const isStored = await inTransaction(async (table) => {
    next = edit(await result(table.get(id)));
    await result(next ? table.put(next) : table.delete(id));
    return true;
  });
  if (!isStored) {
    next = edit(memory.get(id));
    if (next) memory.set(id, next);
    else memory.delete(id);
  }
  return next;
}

async function remove({ id }) {
  await update(id, () => null);
  await broadcast("change");
}

/** Stores an entry for `route`, starts sending it and returns it. */
export async function add(route, body) {
  const entry = { id: newId(), route, body, owner: session.owner(), person: session.personName(), state: STATE.pending, tries: 0, added: Date.now() };
  await update(entry.id, () => entry);
  await broadcast("change");
  flush();
  return entry;
}

/** Undoes an entry: removes it before it is sent, or deletes it from the server. */
export async function undo(entry) {
  // An entry that is no longer stored was sent: sending it again with the same key returns its server id.
  const sent = { ...entry, tries: 1 };
  const toDelete = await update(entry.id, (row = sent) => (row.tries && row.state !== STATE.rejected ? { ...row, state: STATE.undone } : null));
  await broadcast(toDelete ? "change" : "undone", entry);
  if (toDelete) await flush();
}

/** Replaces a rejected entry with an edited one. */
export async function replace(entry, body) {
  await remove(entry);
  await add(entry.route, body);
}

/** Removes all pending and rejected entries. */
export const discardAll = () => Promise.all(all().map(remove));

/** Removes all pending and rejected entries of other people. */
export const discardOthers = async () => Promise.all((await allRows()).filter(isOthers).map(remove));

async function send({ id }) {
  // The key may be replaced meanwhile.
  const owner = session.owner();
  // The try is recorded first: from now on the entry may have reached the server.
  const entry = await update(id, (row) => row && { ...row, tries: row.tries + 1 });
  await broadcast("change");
  if (!entry || !isOwn(entry)) return;
  const { route, body } = entry;
  const logged = await api.requestJson("POST", route, { body, owner, headers: { "Idempotency-Key": id } });
  const undone = await update(id, (row) => row?.state === STATE.undone && row);
  if (undone) {
    await api.catchApiError(() => api.requestJson("DELETE", `${route}${logged.id}`, { owner }), (error) => {
      if (error.kind !== "not-found") throw error;
    });
    await update(id, () => null);
  }
  await broadcast(undone ? "undone" : "arrival", entry);
}

/** Sends the entries one by one; returns the temporary error that stopped it, or null. */
async function sendAll() {
  await dispatch({ name: "change" });
  for (;;) {
    const entry = entries.find((candidate) => candidate.state !== STATE.rejected);
    if (!entry) return null;
    const error = await api.catchApiError(() => send(entry), (caught) => caught);
    if (error?.isTemporary) return error;
    if (error) {
      await update(entry.id, (row) => row?.state === STATE.pending && { ...row, state: STATE.rejected, problem: error.message });
      await broadcast("change");
    }
  }
}

/** Sends all entries, unless that is in progress; temporary errors are retried automatically. */
export function flush() {
  if (!session.isSignedIn()) return null;
  currentFlush ??= (async () => {
    clearTimeout(retryTimer);
    let error = null;
    try {
      // One tab at a time where the browser supports locks; without them, sending twice does no harm.
      error = await (navigator.locks ? navigator.locks.request("coffee-queue", sendAll) : sendAll());
    } finally {
      currentFlush = null;
    }
    if (!error) {
      retries = 0;
      // Entries may have been added meanwhile.
      if (entries.some((entry) => entry.state !== STATE.rejected)) return flush();
    } else if (error.kind !== "unauthorized") {
      const delay = Math.max(error.retryAfter, RETRY_DELAYS[Math.min(retries, RETRY_DELAYS.length - 1)]);
      retries += 1;
      retryTimer = setTimeout(flush, delay * 1000);
    }
    return null;
  })();
  return currentFlush;
}

/** Loads the entries of earlier windows and sends them. */
export async function start() {
  channel.onmessage = ({ data }) => dispatch(data);
  addEventListener("online", flush);
  document.addEventListener("visibilitychange", () => document.hidden || flush());
  await dispatch({ name: "change" });
  flush();
}
