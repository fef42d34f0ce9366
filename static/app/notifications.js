// Toasts with "Undo", the banner for connection problems, and the notes in the footer.

import * as api from "./api.js";
import { button, byId, h, setText } from "./dom.js";
import { MINUTE, formatTime, plural } from "./format.js";
import * as queue from "./queue.js";
import * as session from "./session.js";
import { onChange, store } from "./store.js";

/** How long a toast is shown, in ms, while neither the pointer nor the focus is on it. */
const TOAST_DURATION = 8000;
const MAX_TOASTS = 3;
const UNDO_KEYS = /Mac|iP(hone|ad)/.test(navigator.platform) ? "⌘Z" : "Ctrl+Z";
let openToasts = [];

/**
 * Shows a toast in `place`, an element or its id; only the newest in a place is visible. `undo` adds a button and
 * Ctrl+Z, and returns the focus to where it was. `onClose` runs when undoing is no longer possible, with true if
 * the page is being closed; it may return a promise.
 */
export function showToast(text, { place = "log-notes", undo, onClose, isWarning = false }) {
  const container = typeof place === "string" ? byId(place) : place;
  const previousFocus = document.activeElement;
  const toast = { timer: null };
  const stopTimer = () => clearTimeout(toast.timer);
  const startTimer = () => {
    stopTimer();
    toast.timer = setTimeout(() => toast.close(), TOAST_DURATION);
  };
  const showNewest = () => [...container.children].forEach((element, n, { length }) => (element.hidden = n < length - 1));
  const remove = () => {
    stopTimer();
    if (element.contains(document.activeElement) && previousFocus?.isConnected) previousFocus.focus();
    element.remove();
    showNewest();
    openToasts = openToasts.filter((other) => other !== toast);
  };
  toast.close = (isLeaving = false) => {
    remove();
    return onClose?.(isLeaving);
  };
  toast.undo = undo && (() => {
    remove();
    undo();
  });
  const undoLabel = ["Undo", h("kbd", { "aria-hidden": "true" }, UNDO_KEYS)];
  const action = undo ? h("button", { type: "button", onclick: toast.undo, "aria-keyshortcuts": "Control+Z Meta+Z" }, undoLabel) : button("×", () => toast.close(), { class: "", "aria-label": "Close" });
  const attributes = { class: `toast${isWarning ? " warning" : ""}`, onpointerenter: stopTimer, onpointerleave: startTimer, onfocusin: stopTimer, onfocusout: startTimer };
  const element = h("div", attributes, h("span", {}, text), action);
  container.append(element);
  showNewest();
  openToasts.push(toast);
  if (openToasts.length > MAX_TOASTS) openToasts[0].close();
  startTimer();
}

/** Closes all toasts and waits for the actions that they deferred. `isLeaving`: the page is being closed. */
export const closeToasts = (isLeaving = false) => Promise.all(openToasts.map((toast) => toast.close(isLeaving)));

function onUndoKey(event) {
  // A field with text undoes the typing itself.
  const isTyping = Boolean(event.target.closest?.("input:not([type=radio]), textarea")?.value) || document.querySelector("dialog[open]");
  const newest = openToasts.findLast((toast) => toast.undo);
  if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z" || isTyping || !newest) return;
  event.preventDefault();
  newest.undo();
}

const entryCount = (n) => plural(n, "entry", "entries");

/** Returns the current problem as [level, text, button label or seconds to wait, action], or null. */
function currentProblem({ signIn, retry, review }) {
  const [pending, rejected] = [queue.pending(), queue.rejected().length];
  const where = queue.isPersistent() ? "on this device" : "until you close this page";
  const saved = pending.length ? ` ${entryCount(pending.length)} saved ${where}.` : "";
  const seconds = Math.ceil((api.state.rateLimitedUntil - Date.now()) / 1000);
  if (api.state.isUnauthorized && (api.state.isFromProxy || session.isByProxy())) return ["Warning", `You have to sign in again.${saved}`, "Sign in", signIn];
  if (api.state.isUnauthorized) return ["Warning", `Your API key is no longer valid.${saved}`, "Sign in", signIn];
  if (seconds > 0) return ["Caution", `Too many requests. Waiting to try again.${saved}`, seconds];
  if (api.state.isUnreachable) return ["Caution", `Can't reach the server.${saved || " New entries are saved here and sent later."}`, "Retry", retry];
  if (rejected) return ["Warning", `${entryCount(rejected)} couldn't be saved.`, "Review", review];
  // The first attempt is not reported.
  if (pending.some((entry) => entry.tries > 1)) return ["Caution", `${entryCount(pending.length)} not sent yet.`, "Retry", retry];
  return null;
}

function startBanner(actions) {
  const banner = byId("banner");
  const text = h("span");
  // Hidden from screen readers, which would read it every second.
  const countdown = h("span", { class: "countdown", "aria-hidden": "true" });
  let action, timer;
  const actionButton = button("", () => action?.());
  banner.append(text, countdown, actionButton);
  const show = () => {
    clearTimeout(timer);
    const problem = currentProblem(actions);
    banner.hidden = !problem;
    document.body.classList.toggle("has-banner", !banner.hidden);
    if (!problem) return;
    const [level, message, label] = problem;
    action = problem[3];
    banner.dataset.level = level;
    setText(text, message);
    setText(actionButton, action ? label : "");
    setText(countdown, action ? "" : `${label} s`);
    actionButton.hidden = !action;
    if (!action) timer = setTimeout(show, 1000);
  };
  api.onStateChange(show);
  queue.on("change", show);
}

/** Reports whether a zone has the same time as this device now, like Europe/Berlin and Europe/Paris. */
function isLocalTime(zone) {
  const text = (timeZone) => new Date().toLocaleString("en", { timeZone });
  try {
    return text(zone) === text();
  } catch {
    return false;
  }
}

let shownNotes = "";
function showFooter({ discardOthers }) {
  const others = !session.isSignedIn() ? 0 : queue.countOfOtherKeys();
  const otherEntries = others > 0 && `${entryCount(others)} logged with another key ${others === 1 ? "is" : "are"} waiting on this device, to be sent when you ${session.others().length ? "switch to that person" : "sign in with that key"}. `;
  const serverZone = store.timezone;
  const localZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const notes = [
    serverZone && !isLocalTime(serverZone) && `Times are shown in this device's time zone (${localZone}). Days and bedtime use the server's time zone (${serverZone}).`,
    Math.abs(api.state.clockOffset) > MINUTE && `This device's clock differs from the server's (${formatTime(api.now())}). Entries are logged with the server's time.`,
    !isSecureContext && "Keep this page open to log while the server is unreachable. Opening it without a connection requires HTTPS: see deploy/Caddyfile in the project.",
    otherEntries,
    "Caffeine levels are estimates for an average adult, not measurements or medical advice.",
  ];
  // Rebuilt only when it changes, so that the button keeps the focus.
  if (shownNotes === notes.join()) return;
  shownNotes = notes.join();
  const discardButton = button("Discard", discardOthers, { class: "link", "aria-haspopup": "dialog" });
  byId("footer").replaceChildren(...notes.filter(Boolean).map((note) => h("p", {}, note, note === otherEntries && discardButton)));
}

/** `actions` are those of the banner's button, `signIn`, `retry` and `review`, and of the footer's, `discardOthers`. */
export function start(actions) {
  addEventListener("keydown", onUndoKey);
  addEventListener("pagehide", () => closeToasts(true));
  startBanner(actions);
  const show = () => showFooter(actions);
  onChange(show);
  queue.on("change", show);
  api.onStateChange(show);
}
