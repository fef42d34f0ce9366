// What is said beside the cards. Toasts: what was done, and the way back. The strip: what is not as it should
// be, and what to do. The foot: whose days these are, when clocks differ, what works without a connection.

import * as api from "./api.js";
import { at, button, h, say } from "./elements.js";
import { MINUTE, count, time } from "./format.js";
import { live, onChange } from "./live.js";
import * as queue from "./queue.js";

/** How long a toast stays, in ms: longer while the pointer or the keyboard is on it. */
const STAY = 8000;
const MOST = 3;
let open = [];

/**
 * Says `text`. `undo` gives it a button, and Ctrl+Z; `onGone` is called when it can no longer be undone, with
 * true when the page is being left; it may give a promise.
 */
export function toast(text, { undo, onGone, isWarning = false } = {}) {
  const shown = { timer: null };
  const stay = () => clearTimeout(shown.timer);
  const wait = () => {
    stay();
    shown.timer = setTimeout(() => shown.go(), STAY);
  };
  const end = () => {
    stay();
    element.remove();
    open = open.filter((other) => other !== shown);
  };
  shown.go = (isLeaving = false) => {
    end();
    return onGone?.(isLeaving);
  };
  shown.undo = undo && (() => {
    end();
    undo();
  });
  const way = undo ? button("Undo", shown.undo, { "aria-keyshortcuts": "Control+Z" }) : button("×", () => shown.go(), { "aria-label": "Close" });
  const element = h("div", { class: `toast${isWarning ? " warning" : ""}`, onpointerenter: stay, onpointerleave: wait, onfocusin: stay, onfocusout: wait }, h("span", {}, text), way);
  at("toasts").append(element);
  open.push(shown);
  if (open.length > MOST) open[0].go();
  wait();
}

/** Takes away every chance to undo, and waits until what it held back is done. */
export const settle = () => Promise.all(open.map((shown) => shown.go()));

function undoByKey(event) {
  const isTyping = event.target.closest?.("input:not([type=radio]), textarea, select");
  const newest = open.findLast((shown) => shown.undo);
  if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z" || isTyping || !newest) return;
  event.preventDefault();
  newest.undo();
}

const entries = (n) => count(n, "entry", "entries");

/** What is not as it should be: level, text, a button's label or seconds to wait, and its action; null when all is well. */
function trouble({ signIn, retry, look }) {
  const [waiting, refused] = [queue.waiting(), queue.refused().length];
  const where = queue.isLasting() ? "on this device" : "while this page is open";
  const kept = waiting.length ? ` ${entries(waiting.length)} kept ${where}.` : "";
  const seconds = Math.ceil((api.state.limitedUntil - Date.now()) / 1000);
  if (api.state.isLocked) return ["Warning", `The server no longer takes this key.${kept}`, "Enter a key", signIn];
  if (seconds > 0) return ["Caution", `Too many requests: the server asks to wait.${kept}`, seconds];
  if (api.state.isDown) return ["Caution", `The server does not answer.${kept || " What you log is kept here and sent later."}`, "Try now", retry];
  if (refused) return ["Warning", `The server refused ${entries(refused)}.`, "Look", look];
  // The first try is not worth a word.
  if (waiting.some((entry) => entry.tries > 1)) return ["Caution", `${entries(waiting.length)} not sent yet.`, "Try now", retry];
  return null;
}

function startStrip(actions) {
  const strip = at("strip");
  const text = h("span");
  // Not read aloud each second.
  const clock = h("span", { class: "countdown", "aria-hidden": "true" });
  let action, timer;
  const act = button("", () => action?.());
  strip.append(text, clock, act);
  const show = () => {
    clearTimeout(timer);
    const found = trouble(actions);
    strip.hidden = !found;
    document.body.classList.toggle("has-strip", !strip.hidden);
    if (!found) return;
    const [level, words, next] = found;
    action = found[3];
    strip.dataset.level = level;
    say(text, words);
    say(act, action ? next : "");
    say(clock, action ? "" : `${next} s`);
    act.hidden = !action;
    if (!action) timer = setTimeout(show, 1000);
  };
  api.onState(show);
  queue.on("change", show);
}

/** Does a zone have this device's time now? Europe/Berlin and Europe/Paris are the same to a reader. */
function isHere(zone) {
  const text = (timeZone) => new Date().toLocaleString("en", { timeZone });
  try {
    return text(zone) === text();
  } catch {
    return false;
  }
}

function showFoot() {
  const zone = live.info?.timezone;
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const lines = [
    zone && !isHere(zone) && `Times are this device's (${own}). Days and bedtime are the server's, in ${zone}.`,
    Math.abs(api.state.clockOffset) > MINUTE && `This device's clock and the server's differ: the server has ${time(api.now())}. What you log gets the server's time.`,
    !isSecureContext && "Open, this page keeps what you log until the server is back. To start without a connection, it needs HTTPS: the Caddy recipe in the project's deploy/ gives it.",
    "Caffeine levels are estimates for an average adult, neither measurements nor medical advice.",
  ];
  at("foot").replaceChildren(...lines.filter(Boolean).map((line) => h("p", {}, line)));
}

/** `actions` are what the strip's buttons do: `signIn`, `retry`, `look`. */
export function start(actions) {
  addEventListener("keydown", undoByKey);
  addEventListener("pagehide", () => open.forEach((shown) => shown.go(true)));
  startStrip(actions);
  onChange(showFoot);
  api.onState(showFoot);
}
