// Short words at the foot of the window: what was done, and a button that undoes it. A toast waits while
// the pointer or the keyboard is on it; Ctrl+Z (or ⌘Z) undoes the newest.

import { at, h } from "./dom.js";

const SECONDS = 8;
const MOST = 3;
let open = [];

/**
 * Says `text`. `undo` makes a button of that name; `onGone` is called when it can no longer be undone,
 * with true when the page is being left.
 */
export function toast(text, { undo, onGone, action = "Undo", isWarning = false } = {}) {
  const shown = { timer: null };
  const stay = () => clearTimeout(shown.timer);
  const end = () => {
    stay();
    element.remove();
    open = open.filter((other) => other !== shown);
  };
  const wait = () => {
    stay();
    shown.timer = setTimeout(() => shown.go(), SECONDS * 1000);
  };
  shown.go = (isLeaving = false) => {
    end();
    onGone?.(isLeaving);
  };
  shown.undo = undo && (() => {
    end();
    undo();
  });
  const button = undo && h("button", { type: "button", onclick: shown.undo, "aria-keyshortcuts": "Control+Z" }, action);
  const close = !undo && h("button", { type: "button", onclick: () => shown.go(), "aria-label": "Close" }, "×");
  const element = h(
    "div",
    { class: isWarning ? "toast warning" : "toast", onpointerenter: stay, onpointerleave: wait, onfocusin: stay, onfocusout: wait },
    h("span", {}, text),
    button || close,
  );
  at("toasts").append(element);
  open.push(shown);
  while (open.length > MOST) open[0].go();
  wait();
}

addEventListener("pagehide", () => {
  for (const shown of [...open]) shown.go(true);
});

addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input:not([type=radio]), textarea, select");
  if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z" || isTyping) return;
  const newest = open.findLast((shown) => shown.undo);
  if (!newest) return;
  event.preventDefault();
  newest.undo();
});
