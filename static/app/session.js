// The session: the API key, whose it is, what it may do, and the responses cached for the next start. The key and
// the cached responses outlive the window only if the user chose to stay signed in. Every tab follows a sign-out.
// Without a key, a reverse proxy may sign the person in: then the browser keeps the name of the person alone, so that
// entries can be logged without a connection.

import { sha256 } from "./sha256.js";

const KEY_ITEM = "coffee.key";
const ME_ITEM = "coffee.me";
const KEY_ENTRY_ITEM = "coffee.key-entry";
/** Start of what entries are marked with when a proxy signs the person in. */
const PROXY_PREFIX = "proxy:";
const CACHE_PREFIX = "coffee.answer.";
/** Number of hexadecimal digits that identify a key on this device. */
const FINGERPRINT_DIGITS = 16;

/** Returns the result of a storage access, or null where the browser blocks storage. */
function tryStorage(access) {
  try {
    return access();
  } catch {
    return null;
  }
}

const storages = () => [tryStorage(() => sessionStorage), tryStorage(() => localStorage)].filter(Boolean);
const readItem = (name) => storages().map((storage) => tryStorage(() => storage.getItem(name))).find((value) => value !== null) ?? null;

let currentKey = readItem(KEY_ITEM);
const fingerprints = new Map();
const channel = new BroadcastChannel("coffee-session");
const listeners = [];

/** Returns the API key, or null. */
export const key = () => currentKey;
/** Reports whether the key is kept on this device. */
export const isRemembered = () => currentKey !== null && tryStorage(() => localStorage.getItem(KEY_ITEM)) === currentKey;

/** Whether the key was kept on this device when this tab signed in. */
let wasRemembered = isRemembered();

/** What the server returned about the key, as `{owner, scopes, person}`; null until it is loaded. */
let me = tryStorage(() => JSON.parse(readItem(ME_ITEM)));
/** The name of the person whom a proxy signs in, or null. A key takes precedence. */
let proxyPerson = currentKey === null && me?.owner?.startsWith(PROXY_PREFIX) ? me.person.name : null;

/** Reports whether there is a key, or a proxy signed the person in. */
export const isSignedIn = () => currentKey !== null || proxyPerson !== null;
/** Reports whether a proxy signs the person in, and no key is used. */
export const isByProxy = () => proxyPerson !== null;

/** Returns what entries and cached responses are marked with instead of the key, or null when nobody is signed in. */
export function owner() {
  if (proxyPerson !== null) return PROXY_PREFIX + proxyPerson;
  if (currentKey === null) return null;
  if (!fingerprints.has(currentKey)) fingerprints.set(currentKey, sha256(currentKey).slice(0, FINGERPRINT_DIGITS));
  return fingerprints.get(currentKey);
}

// Of another key.
if (me?.owner !== owner()) me = null;

/** Reports whether the key has a scope. "read" and "write" are assumed until they are loaded. */
export const may = (scope) => me?.scopes.includes(scope) ?? ["read", "write"].includes(scope);
/** Reports whether the scopes of the key are loaded. */
export const isLoaded = () => me !== null;
/** Returns the name of the person to whom the key belongs, or null: servers of earlier versions have one person. */
export const personName = () => me?.person?.name ?? null;
/** Returns the name under which a person is shown, or null for an owner without a display name. */
export const labelOf = (person) => person?.display_name?.trim() || (person && person.name !== "owner" ? person.name : null);
export const personLabel = () => labelOf(me?.person);

/** Returns what identifies the key and its person, or null when nobody is signed in. */
export const identity = () => (isSignedIn() ? { owner: owner(), person: personName() } : null);
/** Reports whether the present session belongs to the person with this identity. */
export const isSamePerson = ({ owner: otherOwner, person }) => otherOwner === owner() || person === personName();

/** Calls `listener` whenever the person or the scopes of the key change. */
export const onChange = (listener) => listeners.push(listener);

/** Sets the scopes and the person of the key, from the response of `GET /me`. */
export function setMe({ key: { scopes }, person = null }) {
  const next = JSON.stringify({ owner: owner(), scopes, person });
  if (next === JSON.stringify(me)) return;
  me = JSON.parse(next);
  tryStorage(() => (isRemembered() || isByProxy() ? localStorage : sessionStorage).setItem(ME_ITEM, next));
  for (const listener of listeners) listener();
}

/** Records that the key was entered now. */
export const recordKeyEntry = () => tryStorage(() => (isRemembered() ? localStorage : sessionStorage).setItem(KEY_ENTRY_ITEM, JSON.stringify({ owner: owner(), at: Date.now() })));

/** Returns when the key was entered last, as an instant of this device, or null if that is not known. */
export function keyEnteredAt() {
  const entries = storages().map((storage) => tryStorage(() => JSON.parse(storage.getItem(KEY_ENTRY_ITEM))));
  return entries.filter((entry) => entry?.owner === owner()).map(({ at }) => at).sort((a, b) => b - a)[0] ?? null;
}

/** Removes every cached response. */
export function clearCachedResponses() {
  tryStorage(() => {
    for (const name of Object.keys(localStorage)) if (name.startsWith(CACHE_PREFIX)) localStorage.removeItem(name);
  });
}

/** Removes the key, what is stored about it, and every cached response. */
export function clear() {
  currentKey = me = proxyPerson = null;
  wasRemembered = false;
  for (const storage of storages()) for (const name of [KEY_ITEM, ME_ITEM, KEY_ENTRY_ITEM]) tryStorage(() => storage.removeItem(name));
  clearCachedResponses();
}

/** Signs in with a key; `response` is that of `GET /me`. */
export function signIn(value, response, remember) {
  clearCachedResponses();
  currentKey = value;
  me = proxyPerson = null;
  for (const storage of storages()) tryStorage(() => storage.removeItem(ME_ITEM));
  // Replaced, not removed first: other tabs compare the former value with their own key.
  tryStorage(() => (remember ? localStorage : sessionStorage).setItem(KEY_ITEM, value));
  tryStorage(() => (remember ? sessionStorage : localStorage).removeItem(KEY_ITEM));
  wasRemembered = isRemembered();
  recordKeyEntry();
  setMe(response);
}

/** Continues as the person whom a proxy signs in; `response` is that of `GET /me` without a key. */
export function signInByProxy(response) {
  proxyPerson = response.person.name;
  setMe(response);
}

/** Signs out in this tab and the others. */
export function signOut() {
  clear();
  channel.postMessage("signed-out");
}

/** Calls `onSignedOut` after another tab signed out, and `onKeyChanged` after it stored another key. */
export function followOtherTabs({ onSignedOut, onKeyChanged }) {
  const onShow = () => {
    if (document.hidden || !wasRemembered || isRemembered()) return;
    if (tryStorage(() => localStorage.getItem(KEY_ITEM)) === null) onSignedOut();
    else onKeyChanged();
  };
  channel.onmessage = () => onSignedOut();
  // A tab that was frozen has missed the message.
  addEventListener("pageshow", onShow);
  document.addEventListener("visibilitychange", onShow);
  addEventListener("storage", ({ key: name, oldValue, newValue }) => {
    const isOwnKey = currentKey === null || currentKey === oldValue;
    if (name === KEY_ITEM && newValue !== null && newValue !== currentKey && isOwnKey) onKeyChanged();
  });
}

/** Stores a value that is not confidential. */
export const saveItem = (name, value) => tryStorage(() => localStorage.setItem(name, JSON.stringify(value)));
export const loadItem = (name) => tryStorage(() => JSON.parse(localStorage.getItem(name)));

const cacheName = (name) => `${CACHE_PREFIX}${owner()}.${name}`;
/** Caches a response for the next start with the same key, if the user stays signed in. */
export const cacheResponse = (name, answer) => isRemembered() && saveItem(cacheName(name), { at: Date.now(), answer });
/** Returns a cached response as `{at, answer}`, or null. */
export const cachedResponse = (name) => loadItem(cacheName(name));
