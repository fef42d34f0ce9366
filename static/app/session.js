// The session: the API key, what it may do, and the responses cached for the next start. The key and the cached
// responses outlive the window only if the user chose to stay signed in. Every tab follows a sign-out.

import { sha256 } from "./sha256.js";

const KEY_ITEM = "coffee.key";
const SCOPES_ITEM = "coffee.scopes";
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
let currentScopes = tryStorage(() => JSON.parse(readItem(SCOPES_ITEM)));
const fingerprints = new Map();
const channel = new BroadcastChannel("coffee-session");
const scopeListeners = [];

/** Returns the API key, or null. */
export const key = () => currentKey;
/** Reports whether the key is kept on this device. */
export const isRemembered = () => currentKey !== null && tryStorage(() => localStorage.getItem(KEY_ITEM)) === currentKey;

/** Whether the key was kept on this device when this tab signed in. */
let wasRemembered = isRemembered();

/** Returns what entries and cached responses are marked with instead of the key, or null without a key. */
export function owner() {
  if (currentKey === null) return null;
  if (!fingerprints.has(currentKey)) fingerprints.set(currentKey, sha256(currentKey).slice(0, FINGERPRINT_DIGITS));
  return fingerprints.get(currentKey);
}

/** Reports whether the key has a scope: "read" or "write". All are assumed until they are loaded. */
export const may = (scope) => currentScopes?.includes(scope) ?? true;
export const onScopesChange = (listener) => scopeListeners.push(listener);

export function setScopes(scopes) {
  if (JSON.stringify(scopes) === JSON.stringify(currentScopes)) return;
  currentScopes = scopes;
  tryStorage(() => (isRemembered() ? localStorage : sessionStorage).setItem(SCOPES_ITEM, JSON.stringify(scopes)));
  for (const listener of scopeListeners) listener();
}

/** Removes every cached response. */
export function clearCachedResponses() {
  tryStorage(() => {
    for (const name of Object.keys(localStorage)) if (name.startsWith(CACHE_PREFIX)) localStorage.removeItem(name);
  });
}

/** Removes the key, its scopes and every cached response. */
export function clear() {
  currentKey = currentScopes = null;
  wasRemembered = false;
  for (const storage of storages()) for (const name of [KEY_ITEM, SCOPES_ITEM]) tryStorage(() => storage.removeItem(name));
  clearCachedResponses();
}

export function signIn(value, scopes, remember) {
  clear();
  currentKey = value;
  tryStorage(() => (remember ? localStorage : sessionStorage).setItem(KEY_ITEM, value));
  wasRemembered = isRemembered();
  setScopes(scopes);
}

/** Signs out in this tab and the others. */
export function signOut() {
  clear();
  channel.postMessage("signed-out");
}

/** Calls `onSignedOut` after another tab signed out, and `onKeyChanged` after it stored another key. */
export function followOtherTabs({ onSignedOut, onKeyChanged }) {
  const onShow = () => document.hidden || (wasRemembered && !isRemembered() && onSignedOut());
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
