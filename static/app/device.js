// What this device remembers. The key and the last answers outlive the window only if its owner said so;
// what holds for everyone (the server's rules) is kept in any case. Storage may be refused: then nothing is.

const KEY = "coffee.key";
const ANSWER = "coffee.answer.";

function attempt(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

/** The key, or null. */
export const key = () => attempt(() => sessionStorage.getItem(KEY)) ?? attempt(() => localStorage.getItem(KEY)) ?? held;
/** Is the key kept on this device? */
export const isRemembered = () => attempt(() => localStorage.getItem(KEY)) !== null;

/** For a browser that lets nothing be stored. */
let held = null;

export function setKey(value, remember) {
  forget();
  held = value;
  attempt(() => (remember ? localStorage : sessionStorage).setItem(KEY, value));
}

/** Forgets the key and every answer that it opened. */
export function forget() {
  held = null;
  attempt(() => sessionStorage.removeItem(KEY));
  attempt(() => localStorage.removeItem(KEY));
  attempt(() => {
    for (const name of Object.keys(localStorage)) if (name.startsWith(ANSWER)) localStorage.removeItem(name);
  });
}

/** Keeps an answer for the next start, on a device that may. */
export function keep(name, answer) {
  if (isRemembered()) attempt(() => localStorage.setItem(ANSWER + name, JSON.stringify({ at: Date.now(), answer })));
}

/** The answer that was kept and when, or null. */
export const kept = (name) => (isRemembered() ? attempt(() => JSON.parse(localStorage.getItem(ANSWER + name))) : null);

/** Small things that are nobody's secret. */
export const note = (name, value) => attempt(() => localStorage.setItem(`coffee.${name}`, JSON.stringify(value)));
export const noted = (name) => attempt(() => JSON.parse(localStorage.getItem(`coffee.${name}`)));
