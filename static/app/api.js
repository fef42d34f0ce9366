// How the server is asked: with the key, within a time, and with one kind of failure that says what it
// means. It also knows the server's clock, and whether the server answers, refuses the key or asks to wait.

import * as device from "./device.js";

const PATIENCE = 12_000;
/** A device and a server may differ by this much without anybody noticing, in ms. */
const DRIFT = 5_000;

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

/** How the server stands: `isDown`, `isLocked` (the key is refused), `limitedUntil` (ms). */
export const state = { isDown: false, isLocked: false, limitedUntil: 0, clockOffset: 0 };
const listeners = new EventTarget();
/** Calls `listener` whenever `state` changes. */
export const onState = (listener) => listeners.addEventListener("state", () => listener(state));

function become(change) {
  if (Object.entries(change).every(([name, value]) => state[name] === value)) return;
  Object.assign(state, change);
  listeners.dispatchEvent(new Event("state"));
}

/** Now, by the server's clock: what is logged gets this time, however wrong this device's is. */
export const now = () => Date.now() + state.clockOffset;

/** Follows the server's clock where it differs, unless the server itself doubts it. */
async function compareClocks(reply, sent) {
  const said = Date.parse(reply.headers.get("Date"));
  if (!said || Date.now() - sent > DRIFT) return;
  // The header has whole seconds.
  const offset = said + 500 - (sent + Date.now()) / 2;
  if (Math.abs(offset) < DRIFT) return void (state.clockOffset = 0);
  if (Math.abs(offset - state.clockOffset) < DRIFT) return;
  state.clockOffset = offset;
  const health = await fetch("/health").then((answer) => answer.json(), () => null);
  if (health?.clock?.status === "suspect") state.clockOffset = 0;
  listeners.dispatchEvent(new Event("state"));
}

async function faultOf(reply) {
  const problem = await reply.json().catch(() => ({}));
  const detail = problem.detail ?? `The server answered ${reply.status}`;
  const wait = Number(reply.headers.get("Retry-After")) || 0;
  const kinds = { 401: "key", 403: "scope", 404: "gone", 408: "busy", 429: "limited", 500: "broken", 503: "busy" };
  const other = reply.status >= 500 ? "busy" : "unfit";
  return new Fault(kinds[reply.status] ?? other, detail, { status: reply.status, errors: problem.errors, wait });
}

/** A request's reply, whatever is in it; throws a `Fault`. `key` is tried in the place of the one in use. */
export async function reply(method, path, { body, headers = {}, key, patience = PATIENCE, signal, keepalive } = {}) {
  const sent = Date.now();
  const timeout = AbortSignal.timeout?.(patience);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      keepalive,
      cache: "no-store",
      headers: { Authorization: `Bearer ${key ?? device.key()}`, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ?? timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    become({ isDown: true });
    throw new Fault("down", "The server does not answer");
  }
  compareClocks(answer, sent);
  if (answer.ok) {
    become({ isDown: false, isLocked: false });
    return answer;
  }
  const fault = await faultOf(answer);
  // A proxy answers 502 and 504 for a server that is gone.
  become({ isDown: [502, 504].includes(fault.status) });
  if (fault.kind === "key" && !key) become({ isLocked: true });
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
  const query = new URLSearchParams(given).toString();
  return query ? `${path}?${query}` : path;
}
