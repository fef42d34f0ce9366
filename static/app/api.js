// HTTP client of the dashboard: requests with a timeout and one error type, and the state of the connection.

import * as session from "./session.js";

/** Time limit of a request, in ms, unless it has a signal of its own. */
const TIMEOUT = 12_000;
/** Candidate key of requests that are sent without a key: a reverse proxy may sign the person in. */
export const NO_KEY = "";
/** Differences between the clocks of this device and the server up to this are ignored, in ms. */
const CLOCK_TOLERANCE = 5_000;

/**
 * A failed request. `kind`: unreachable, busy, unauthorized, forbidden, rate-limited, invalid, not-found,
 * server-error, key-changed if the key was replaced meanwhile, or cancelled by the user. `isFromProxy`: a reverse proxy
 * asks to sign in there.
 */
export class ApiError extends Error {
  constructor(kind, detail, { status = 0, errors = [], retryAfter = 0, isFromProxy = false } = {}) {
    super(detail);
    Object.assign(this, { kind, status, errors, retryAfter, isFromProxy });
  }

  /** Reports whether the same request may succeed later. */
  get isTemporary() {
    return ["unreachable", "busy", "rate-limited", "unauthorized", "server-error", "key-changed"].includes(this.kind);
  }
}

/**
 * State of the connection. `isFromProxy`: `isUnauthorized` was reported by a reverse proxy. `rateLimitedUntil` is an
 * instant of this device, `clockOffset` is in ms.
 */
export const state = { isUnreachable: false, isUnauthorized: false, isFromProxy: false, rateLimitedUntil: 0, clockOffset: 0 };
const listeners = [];
/** Calls `listener` whenever `state` changes. */
export const onStateChange = (listener) => listeners.push(listener);

function updateState(change) {
  if (Object.entries(change).every(([name, value]) => state[name] === value)) return;
  Object.assign(state, change);
  for (const listener of listeners) listener(state);
}

/** Returns the server's time: entries get this time even if this device's clock is wrong. */
export const now = () => Date.now() + state.clockOffset;

/** The last difference between the clocks that was evaluated, in ms. */
let measuredOffset = 0;

/** Adopts the server's clock where it differs, unless the server reports its own clock as suspect. */
async function syncClock(response, sentAt) {
  const serverTime = Date.parse(response.headers.get("Date"));
  if (!serverTime || Date.now() - sentAt > CLOCK_TOLERANCE) return;
  // The header has whole seconds.
  const offset = serverTime + 500 - (sentAt + Date.now()) / 2;
  if (Math.abs(offset - measuredOffset) < CLOCK_TOLERANCE) return;
  measuredOffset = offset;
  if (Math.abs(offset) < CLOCK_TOLERANCE) return void updateState({ clockOffset: 0 });
  const health = await fetch("/health").then((body) => body.json(), () => null);
  if (health?.clock?.status !== "suspect") updateState({ clockOffset: offset });
}

const KINDS = { 401: "unauthorized", 403: "forbidden", 404: "not-found", 408: "busy", 429: "rate-limited", 500: "server-error" };

const hasType = (response, type) => (response.headers.get("Content-Type") ?? "").startsWith(type);

/**
 * Reports whether the response is not the server's: a reverse proxy whose session has expired redirects to its sign-in
 * page, or returns that page or 401 itself. With a key, 401 means the key.
 */
function isSignInPage(response) {
  const isRefused = response.status === 401 && !session.key() && !hasType(response, "application/problem+json");
  return response.type === "opaqueredirect" || isRefused || (response.ok && hasType(response, "text/html"));
}

async function errorFrom(response) {
  const { status } = response;
  if (isSignInPage(response)) return new ApiError("unauthorized", "You have to sign in again", { status, isFromProxy: true });
  const { detail = `The server returned status ${status}`, errors } = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new ApiError(KINDS[status] ?? (status > 500 ? "busy" : "invalid"), detail, { status, errors, retryAfter });
}

/**
 * Throws unless the key of a request is still the one in use: what it returned may belong to another person. Nothing is
 * requested between a sign-out and the restart of the page either.
 */
function requireOwner(owner) {
  if (owner === null || owner !== session.owner()) throw new ApiError("key-changed", "The API key was replaced");
}

/** Number of requests that were refused because of the key. */
let refusals = 0;

let beforeChange = null;
/**
 * Calls `listener` before each request that changes something, with its method, path and body. It may return a promise;
 * if it throws, the request is not sent.
 */
export const onBeforeChange = (listener) => (beforeChange = listener);

/** Returns the headers that name the caller. Without a key, the proxy must still sign the same person in. */
function credentials(candidateKey = session.key()) {
  if (candidateKey) return { Authorization: `Bearer ${candidateKey}` };
  return candidateKey === null && session.isByProxy() ? { "X-Person": session.personName() } : {};
}

/**
 * Sends a request and returns the `Response` if it succeeded; throws an `ApiError`. `candidateKey`, which may be `NO_KEY`,
 * is tried in place of the stored key. `owner`: the request is sent only with this owner's key. `file` is sent as it is,
 * in place of a JSON `body`. `transport` is used in place of `fetch`.
 */
export async function request(method, path, { body, file, headers, candidateKey, owner = session.owner(), signal, keepalive, transport = fetch } = {}) {
  const isCandidate = candidateKey !== undefined;
  if (beforeChange && !isCandidate && method !== "GET") await beforeChange(method, path, body);
  if (!isCandidate) requireOwner(owner);
  const sentAt = Date.now();
  const refusalsBefore = refusals;
  let response;
  try {
    response = await transport(path, {
      method,
      keepalive,
      redirect: "manual",
      headers: { ...credentials(candidateKey), ...headers },
      body: file ?? (body && JSON.stringify(body)),
      signal: signal ?? AbortSignal.timeout?.(TIMEOUT),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    updateState({ isUnreachable: true });
    throw new ApiError("unreachable", "Can't reach the server");
  }
  if (!isCandidate) requireOwner(owner);
  syncClock(response, sentAt);
  if (response.ok && !isSignInPage(response)) {
    // A request that was sent before the key was refused does not show that the key is valid now.
    const isAccepted = !isCandidate && refusals === refusalsBefore;
    updateState({ isUnreachable: false, ...(isAccepted && { isUnauthorized: false, isFromProxy: false, rateLimitedUntil: 0 }) });
    return response;
  }
  const error = await errorFrom(response);
  // A reverse proxy returns 502 or 504 when the server is down.
  updateState({ isUnreachable: [502, 504].includes(error.status) });
  if (error.kind === "unauthorized" && !isCandidate) {
    // Whoever has a revoked key must not see the data on the next start.
    session.clearCachedResponses();
    refusals += 1;
    updateState({ isUnauthorized: true, isFromProxy: error.isFromProxy });
  }
  if (error.kind === "rate-limited") updateState({ rateLimitedUntil: Date.now() + Math.max(error.retryAfter, 1) * 1000 });
  throw error;
}

/** Sends a request and returns the body as JSON. */
export async function requestJson(method, path, options) {
  const owner = session.owner();
  const response = await request(method, path, options);
  const json = await response.json().catch(() => {
    updateState({ isUnreachable: true });
    throw new ApiError("unreachable", "The connection to the server was lost");
  });
  if (options?.candidateKey === undefined) requireOwner(owner);
  return json;
}

export const get = (path, options) => requestJson("GET", path, options);

/** Appends a query string to a path, without empty fields. */
export function withQuery(path, fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/**
 * Runs `action` and passes an `ApiError` to `onError`, unless the user cancelled the request; any other error is a
 * defect and is thrown.
 */
export async function catchApiError(action, onError) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return error.kind === "cancelled" ? undefined : onError(error);
  }
}
