// The server and the key to it. What this device remembers: the key and the last answers outlive the window
// only if its owner said so. How the server is asked: within a time, with one kind of failure that says what
// it means; its clock; and whether it answers, refuses the key or asks to wait.

const KEY = "coffee.key";
const ANSWER = "coffee.answer.";
const PATIENCE = 12_000;
/** A device's clock and the server's may differ by this much without anybody noticing, in ms. */
const DRIFT = 5_000;

/** A browser may refuse to store anything: then nothing is. */
function attempt(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

/** The key of a browser that stores none. */
let held = null;
const remembered = () => attempt(() => localStorage.getItem(KEY));

/** The key, or null. */
export const key = () => attempt(() => sessionStorage.getItem(KEY)) ?? remembered() ?? held;
/** Is it kept on this device? */
export const isRemembered = () => remembered() !== null;

export function setKey(value, remember) {
  forget();
  held = value;
  attempt(() => (remember ? localStorage : sessionStorage).setItem(KEY, value));
}

/** Forgets the key and every answer that it opened. */
export function forget() {
  held = null;
  attempt(() => sessionStorage.removeItem(KEY));
  attempt(() => {
    for (const name of Object.keys(localStorage)) if (name === KEY || name.startsWith(ANSWER)) localStorage.removeItem(name);
  });
}

/** Small things that are nobody's secret. */
export const note = (name, value) => attempt(() => localStorage.setItem(name, JSON.stringify(value)));
export const noted = (name) => attempt(() => JSON.parse(localStorage.getItem(name)));

/** Keeps an answer for the next start, on a device that may. */
export const keep = (name, answer) => isRemembered() && note(ANSWER + name, { at: Date.now(), answer });
/** The answer that was kept and when, or null. */
export const kept = (name) => noted(ANSWER + name);

/** Why there is no answer. `kind`: down, busy, key, scope, limited, unfit, gone or broken. */
export class Fault extends Error {
  constructor(kind, detail, { status = 0, errors = [], wait = 0 } = {}) {
    super(detail);
    Object.assign(this, { kind, status, errors, wait });
  }

  /** Will the same request do later? */
  get isPassing() {
    return ["down", "busy", "limited", "key", "broken"].includes(this.kind);
  }
}

/** How the server stands: `isDown`, `isLocked` (the key is refused), `limitedUntil` and `clockOffset` (ms). */
export const state = { isDown: false, isLocked: false, limitedUntil: 0, clockOffset: 0 };
const listeners = [];
/** Calls `listener` whenever `state` changes. */
export const onState = (listener) => listeners.push(listener);

function become(change) {
  if (Object.entries(change).every(([name, value]) => state[name] === value)) return;
  Object.assign(state, change);
  for (const listener of listeners) listener(state);
}

/** Now, by the server's clock: what is logged gets this time, however wrong this device's is. */
export const now = () => Date.now() + state.clockOffset;

/** The difference that was judged last. */
let judged = 0;

/** Follows the server's clock where it differs, unless the server itself doubts it. */
async function compareClocks(reply, sent) {
  const said = Date.parse(reply.headers.get("Date"));
  if (!said || Date.now() - sent > DRIFT) return;
  // The header has whole seconds.
  const offset = said + 500 - (sent + Date.now()) / 2;
  if (Math.abs(offset - judged) < DRIFT) return;
  judged = offset;
  if (Math.abs(offset) < DRIFT) return void become({ clockOffset: 0 });
  const health = await fetch("/health").then((answer) => answer.json(), () => null);
  if (health?.clock?.status !== "suspect") become({ clockOffset: offset });
}

const KINDS = { 401: "key", 403: "scope", 404: "gone", 408: "busy", 429: "limited", 500: "broken" };

async function faultOf(reply) {
  const { status } = reply;
  const { detail = `The server answered ${status}`, errors } = await reply.json().catch(() => ({}));
  const wait = Number(reply.headers.get("Retry-After")) || 0;
  return new Fault(KINDS[status] ?? (status > 500 ? "busy" : "unfit"), detail, { status, errors, wait });
}

/** A request's reply, whatever is in it; throws a `Fault`. `candidate` is a key to try in the place of the one in use. */
export async function reply(method, path, { body, headers, candidate, signal, keepalive } = {}) {
  const sent = Date.now();
  let answer;
  try {
    answer = await fetch(path, {
      method,
      keepalive,
      headers: { Authorization: `Bearer ${candidate ?? key()}`, ...headers },
      body: body && JSON.stringify(body),
      signal: signal ?? AbortSignal.timeout?.(PATIENCE),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    become({ isDown: true });
    throw new Fault("down", "The server does not answer");
  }
  compareClocks(answer, sent);
  if (answer.ok) {
    become(candidate ? { isDown: false } : { isDown: false, isLocked: false, limitedUntil: 0 });
    return answer;
  }
  const fault = await faultOf(answer);
  // A proxy answers 502 and 504 for a server that is gone.
  become({ isDown: [502, 504].includes(fault.status) });
  if (fault.kind === "key" && !candidate) become({ isLocked: true });
  if (fault.kind === "limited") become({ limitedUntil: Date.now() + Math.max(fault.wait, 1) * 1000 });
  throw fault;
}

/** The same, as JSON. */
export async function call(method, path, options) {
  const answer = await reply(method, path, options);
  try {
    return await answer.json();
  } catch {
    become({ isDown: true });
    throw new Fault("down", "The server stopped in the middle of its answer");
  }
}

export const get = (path, options) => call("GET", path, options);

/** A path with a query, without the fields that are empty. */
export function withQuery(path, fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Does `action`; a `Fault` goes to `otherwise`, anything else is a defect. */
export async function trying(action, otherwise) {
  try {
    return await action();
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    return otherwise(fault);
  }
}
