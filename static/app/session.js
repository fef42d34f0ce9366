// The session: the API key, whose it is, what it may do, and the responses cached for the next start. The key and
// the cached responses outlive the window only if the user chose to stay signed in. Every tab follows a sign-out.
// A browser can hold keys of several people, one each; the person of one of them is the present one. Without a key, a
// reverse proxy may sign the person in: then the browser keeps the name of the person alone, so that entries can be
// logged without a connection.

import { sha256 } from "./sha256.js";

const KEY_ITEM = "coffee.key";
const ME_ITEM = "coffee.me";
const KEY_ENTRY_ITEM = "coffee.key-entry";
const OTHERS_ITEM = "coffee.others";
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

/** Returns the storage of this window, as a list that is empty where the browser blocks it. */
const windowStorage = () => [tryStorage(() => sessionStorage)].filter(Boolean);
const storages = () => [...windowStorage(), tryStorage(() => localStorage)].filter(Boolean);
const readJson = (storage, name) => tryStorage(() => JSON.parse(storage.getItem(name)));
const readItem = (name) => storages().map((storage) => tryStorage(() => storage.getItem(name))).find((value) => value !== null) ?? null;

const fingerprints = new Map();
/** Returns what identifies a key on this device. */
function fingerprintOf(value) {
  if (!fingerprints.has(value)) fingerprints.set(value, sha256(value).slice(0, FINGERPRINT_DIGITS));
  return fingerprints.get(value);
}

/** Returns the keys of other people in a storage, as `{key, me}`, latest first. */
const othersIn = (storage) => readJson(storage, OTHERS_ITEM) ?? [];
const setOthers = (storage, others) => tryStorage(() => (others.length ? storage.setItem(OTHERS_ITEM, JSON.stringify(others)) : storage.removeItem(OTHERS_ITEM)));

/** Makes a key the present one of a storage. Other tabs compare the former value with their own key. */
function setPresent(storage, { key: value, me: about }) {
  tryStorage(() => storage.setItem(ME_ITEM, JSON.stringify(about)));
  tryStorage(() => storage.setItem(KEY_ITEM, value));
}

/** Makes the latest of the other people the present one of a storage; reports whether there is one. */
function promoteOther(storage) {
  const [next, ...rest] = othersIn(storage);
  if (!next) return false;
  setOthers(storage, rest);
  setPresent(storage, next);
  return true;
}

// The present key was in the sessionStorage of a closed window.
if (readItem(KEY_ITEM) === null) storages().some(promoteOther);

const storedKey = () => readItem(KEY_ITEM);
let currentKey = storedKey();
const channel = new BroadcastChannel("coffee-session");
const listeners = [];

/** Returns the API key, or null. */
export const key = () => currentKey;
/** Reports whether the key is kept on this device. */
export const isRemembered = () => currentKey !== null && tryStorage(() => localStorage.getItem(KEY_ITEM)) === currentKey;

/** Whether the key was stored when this page was loaded or signed in; browsers may block storage. */
let wasStored = true;

/** What is stored about keys. */
const storedAbout = storages().map((storage) => readJson(storage, ME_ITEM)).filter(Boolean);
/** The name of the person whom a proxy signs in, or null. A key takes precedence. */
let proxyPerson = currentKey === null ? (storedAbout.find(({ owner: of }) => of?.startsWith(PROXY_PREFIX))?.person.name ?? null) : null;

/** Reports whether there is a key, or a proxy signed the person in. */
export const isSignedIn = () => currentKey !== null || proxyPerson !== null;
/** Reports whether a proxy signs the person in, and no key is used. */
export const isByProxy = () => proxyPerson !== null;

/** Returns what entries and cached responses are marked with instead of the key, or null when nobody is signed in. */
export function owner() {
  if (proxyPerson !== null) return PROXY_PREFIX + proxyPerson;
  return currentKey === null ? null : fingerprintOf(currentKey);
}

/** What the server returned about the key, as `{owner, scopes, person}`; null until it is loaded. */
let me = storedAbout.find(({ owner: of }) => of === owner()) ?? null;

/** Reports whether the key has a scope. "read" and "write" are assumed until they are loaded. */
export const may = (scope) => me?.scopes.includes(scope) ?? ["read", "write"].includes(scope);
/** Reports whether the scopes of the key are loaded. */
export const isLoaded = () => me !== null;
/** Returns the name of the person to whom the key belongs, or null: servers of earlier versions have one person. */
export const personName = () => me?.person?.name ?? null;
/** Returns the name under which a person is shown, or null for an owner without a display name. */
export const labelOf = (person) => person?.display_name?.trim() || (person && person.name !== "owner" ? person.name : null);
/** Returns the person to whom the key belongs, as `{name, display_name}`, or null. */
export const presentPerson = () => me?.person ?? null;
export const personLabel = () => labelOf(me?.person);

/** Returns what identifies the key and its person, or null when nobody is signed in. */
export const identity = () => (isSignedIn() ? { owner: owner(), person: personName() } : null);
/** Reports whether the present session belongs to the person with this identity. */
export const isSamePerson = ({ owner: otherOwner, person }) => otherOwner === owner() || person === personName();

/** Calls `listener` whenever the person or the scopes of the key change. */
export const onChange = (listener) => listeners.push(listener);

/** Returns the storage of the present session, or null where the browser blocks it. */
const ownStorage = () => tryStorage(() => (isRemembered() || isByProxy() ? localStorage : sessionStorage));

/** Sets the scopes and the person of the key, from the response of `GET /me`. */
export function setMe({ key: { scopes }, person = null }) {
  const next = JSON.stringify({ owner: owner(), scopes, person });
  if (next === JSON.stringify(me)) return;
  me = JSON.parse(next);
  tryStorage(() => ownStorage().setItem(ME_ITEM, next));
  for (const listener of listeners) listener();
}

/** Records that the key was entered now. */
export const recordKeyEntry = () => tryStorage(() => ownStorage().setItem(KEY_ENTRY_ITEM, JSON.stringify({ owner: owner(), at: Date.now() })));

/** Returns when the key was entered last, as an instant of this device, or null if that is not known. */
export function keyEnteredAt() {
  const entries = storages().map((storage) => readJson(storage, KEY_ENTRY_ITEM));
  return entries.filter((entry) => entry?.owner === owner()).map(({ at }) => at).sort((a, b) => b - a)[0] ?? null;
}

/** Returns the present key of a storage, as `{key, me}`, or null if it is not known whose it is. */
function presentIn(storage) {
  const [value, about] = [tryStorage(() => storage.getItem(KEY_ITEM)), readJson(storage, ME_ITEM)];
  return value !== null && about?.owner === fingerprintOf(value) ? { key: value, me: about } : null;
}

/** Returns the keys in this browser as `{key, me, storage}`. */
const heldKeys = () => storages().flatMap((storage) => [presentIn(storage), ...othersIn(storage)].filter(Boolean).map((held) => ({ ...held, storage })));

/** Returns the other people whose keys this browser holds. */
export function others() {
  const present = personName();
  const people = new Map(heldKeys().map((held) => [held.me.person?.name, held.me.person]));
  return present === null ? [] : [...people.values()].filter((person) => person && person.name !== present);
}

/** Forgets the keys of a person who is not the present one, in some storages. */
function forgetOther(name, from = storages()) {
  for (const storage of from) {
    const [held, kept] = [othersIn(storage), othersIn(storage).filter(({ me: about }) => about.person.name !== name)];
    if (kept.length < held.length) setOthers(storage, kept);
  }
}

/** Keeps a key as that of another person. */
function keepAsOther(storage, held) {
  forgetOther(held.me.person.name);
  setOthers(storage, [held, ...othersIn(storage)]);
}

/** Reports whether the present key of a storage is that of a person who is not one of `names`. */
function isOfOthers(storage, names) {
  const held = presentIn(storage)?.me.person?.name;
  return held !== undefined && !names.includes(held);
}

/** Reports whether other windows stay signed in as a person who is not one of `names`, and this window does not. */
const isSharedWith = (names) => !isRemembered() && isOfOthers(tryStorage(() => localStorage), names);
/** Keeps the key of other windows while another person is signed in. */
const setSharedAside = () => tryStorage(() => keepAsOther(localStorage, presentIn(localStorage)));

/** Keeps the present key while another person is signed in. */
function setAside() {
  if (currentKey === null || !me?.person) return;
  keepAsOther(ownStorage(), { key: currentKey, me });
}

/** Removes the cached responses that were loaded with the keys for which `isRemoved(owner)` is true. */
function removeCachedResponses(isRemoved) {
  tryStorage(() => {
    for (const name of Object.keys(localStorage)) if (name.startsWith(CACHE_PREFIX) && isRemoved(name.slice(CACHE_PREFIX.length).split(".")[0])) localStorage.removeItem(name);
  });
}

/** Removes the cached responses of the present key. */
export const clearCachedResponses = () => removeCachedResponses((of) => of === owner());

/** Removes the cached responses of keys that this browser does not hold any longer. */
function removeForeignResponses() {
  const held = heldKeys().map((key) => key.me.owner);
  removeCachedResponses((of) => !held.includes(of));
}

/**
 * Whether another tab has signed the person out and put another one in place. This tab may not see the new key in
 * localStorage yet, so `clear` leaves localStorage alone.
 */
let isReplacedElsewhere = false;

/**
 * Removes the keys of the present person, what is stored about them, and the cached responses. At the next start, the
 * latest of the other people is signed in, if there are any.
 */
export function clear() {
  const person = personName();
  const own = isReplacedElsewhere ? windowStorage() : storages();
  if (person !== null) forgetOther(person, own);
  currentKey = me = proxyPerson = null;
  wasStored = false;
  for (const storage of own) {
    if (person !== null && isOfOthers(storage, [person])) continue;
    tryStorage(() => storage.removeItem(KEY_ENTRY_ITEM));
    if (!promoteOther(storage)) for (const name of [KEY_ITEM, ME_ITEM]) tryStorage(() => storage.removeItem(name));
  }
  removeForeignResponses();
}

/**
 * Signs in with a key; `response` is that of `GET /me`. With `keepsPresent`, the present key is kept for its person, if
 * that is another one.
 */
export function signIn(value, response, remember, { keepsPresent = false } = {}) {
  const [former, next] = [personName(), response.person?.name];
  if (keepsPresent && next !== former) setAside();
  if (response.person) forgetOther(next);
  const isShared = isSharedWith(keepsPresent ? [next] : [former, next]);
  if (isShared && remember) setSharedAside();
  const replaced = isShared && !remember ? windowStorage() : storages();
  currentKey = value;
  me = proxyPerson = null;
  for (const storage of replaced) tryStorage(() => storage.removeItem(ME_ITEM));
  removeForeignResponses();
  const target = tryStorage(() => (remember ? localStorage : sessionStorage));
  // Replaced, not removed first: other tabs compare the former value with their own key.
  tryStorage(() => target.setItem(KEY_ITEM, value));
  for (const storage of replaced) if (storage !== target) tryStorage(() => storage.removeItem(KEY_ITEM));
  wasStored = storedKey() === currentKey;
  recordKeyEntry();
  setMe(response);
}

/** Continues as the person whom a proxy signs in; `response` is that of `GET /me` without a key. */
export function signInByProxy(response) {
  proxyPerson = response.person.name;
  setMe(response);
}

/** Continues with the key of another person whom `others` returned. */
export function switchTo(name) {
  const next = heldKeys().find((held) => held.me.person?.name === name);
  if (!next) return;
  setAside();
  forgetOther(name);
  // The key of a window hides the one that other windows share.
  if (next.storage === tryStorage(() => localStorage)) {
    for (const item of [KEY_ITEM, ME_ITEM]) tryStorage(() => sessionStorage.removeItem(item));
    if (isSharedWith([name])) setSharedAside();
  }
  setPresent(next.storage, next);
  [currentKey, me, proxyPerson] = [next.key, next.me, null];
  wasStored = storedKey() === currentKey;
}

/** Signs the person out in this tab and the others. */
export function signOut() {
  const gone = identity();
  clear();
  channel.postMessage({ ...gone, isReplaced: tryStorage(() => localStorage.getItem(KEY_ITEM)) !== null });
}

/** Calls `onSignedOut` after another tab signed this person out, and `onKeyChanged` after it stored another key. */
export function followOtherTabs({ onSignedOut, onKeyChanged }) {
  const onShow = () => {
    const stored = storedKey();
    if (document.hidden || !wasStored || stored === currentKey) return;
    if (stored === null) onSignedOut();
    else onKeyChanged();
  };
  channel.onmessage = ({ data: gone }) => {
    if (gone.person && gone.person !== personName()) forgetOther(gone.person, windowStorage());
    if (!isSignedIn() || !isSamePerson(gone)) return;
    isReplacedElsewhere = gone.isReplaced;
    onSignedOut();
  };
  // A tab that was frozen has missed the message, and so has a page to which the user goes back.
  addEventListener("pageshow", onShow);
  document.addEventListener("visibilitychange", onShow);
  addEventListener("storage", ({ key: name, oldValue, newValue }) => {
    if (name === OTHERS_ITEM) for (const listener of listeners) listener();
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
