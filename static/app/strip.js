// One line at the foot of the window that says what is not as it should be, and what to do: the key is
// refused, the server wants a pause, it does not answer, entries wait or were refused.

import * as api from "./api.js";
import { at, h, say } from "./dom.js";
import { count } from "./format.js";
import * as queue from "./queue.js";

const entries = (n) => count(n, "entry", "entries");

/** What there is to say: text, button, action; null when all is well. */
function message(actions) {
  const waiting = queue.all().filter((entry) => entry.state === "waiting");
  const refused = queue.all().filter((entry) => entry.state === "refused").length;
  const kept = waiting.length ? ` ${entries(waiting.length)} kept on this device.` : "";
  const seconds = Math.ceil((api.state.limitedUntil - Date.now()) / 1000);
  if (api.state.isLocked) return ["warning", `The server no longer takes this key.${kept}`, "Enter a key", actions.signIn];
  if (seconds > 0) return ["caution", `The server asks to wait ${seconds} s: too many requests.${kept}`];
  if (api.state.isDown) return ["caution", `The server does not answer.${kept || " What you log is kept here and sent later."}`, "Try now", actions.retry];
  if (refused) return ["warning", `The server refused ${entries(refused)}.`, "Look", actions.look];
  // One that is on its way is not worth a word.
  if (waiting.some((entry) => entry.tries > 1)) return ["caution", `${entries(waiting.length)} not sent yet.`, "Try now", actions.retry];
  return null;
}

/** `actions`: what the buttons do: `signIn`, `retry`, `look`. */
export function start(actions) {
  const strip = at("strip");
  const text = h("span");
  const button = h("button", { type: "button", class: "button" });
  strip.append(text, button);
  let action = null;
  button.addEventListener("click", () => action?.());
  let timer = null;
  const show = () => {
    clearTimeout(timer);
    const found = message(actions);
    strip.hidden = !found;
    document.body.classList.toggle("has-strip", Boolean(found));
    if (!found) return;
    const [level, words, label] = found;
    action = found[3];
    strip.dataset.level = level;
    say(text, words);
    button.hidden = !label;
    if (label) say(button, label);
    if (api.state.limitedUntil > Date.now()) timer = setTimeout(show, 1000);
  };
  api.onState(show);
  queue.onChange(show);
  show();
}
