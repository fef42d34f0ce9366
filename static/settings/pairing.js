// Pairing of a device: a QR code and six digits, which the device exchanges for a key, and whether it has done so.

import * as api from "../app/api.js";
import { button, h, setText } from "../app/dom.js";
import { isolate } from "../app/format.js";

/** Time between two requests for the state, in ms. */
const POLL_INTERVAL = 2000;
const LOOPBACK = /^(localhost|.*\.localhost|127\..*|\[::1\])$/;

const isLoopback = () => LOOPBACK.test(location.hostname);

/** Warns about an address that the other device cannot open, or should not use everywhere. */
function addressNote() {
  if (isLoopback()) return `Other devices can't open ${location.origin}: this address works on this computer only. Open the settings at the server's name or IP address, then add the device there.`;
  if (location.protocol === "http:") return "This address is not encrypted (HTTP). Pair only in a network that you trust.";
  return null;
}

const formatCountdown = (ms) => {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
};

/**
 * Starts a pairing for `device`, the body of `POST /pairings`, and shows it in `container`. `onPaired` is called when
 * the device has its key, `onDone` when the user is finished, and `onRestart` to start another one after the code has
 * expired. Returns the function that stops following it.
 */
export async function startPairing(container, device, { onPaired, onDone, onRestart }) {
  const pairing = await api.requestJson("POST", "/pairings", { body: { ...device, base_url: location.origin } });
  // It ends by itself if this fails.
  const end = () => api.catchApiError(() => api.request("DELETE", `/pairings/${pairing.id}`), () => null);
  // The user has opened another section meanwhile.
  if (!container.isConnected) {
    end();
    return () => {};
  }
  const expiresAt = Date.parse(pairing.expires_at);
  const state = h("p", { class: "pairing-state", role: "status" }, `Waiting for ${isolate(device.name)}…`);
  const countdown = h("p", { class: "muted", "aria-hidden": "true" });
  const note = addressNote();
  const title = h("h3", { tabindex: -1 }, "Pair ", h("bdi", {}, device.name));
  const digits = `${pairing.digits.slice(0, 3)} ${pairing.digits.slice(3)}`;
  const codes = h(
    "div",
    { class: "pairing" },
    // An image, so that nothing in it can run or load anything.
    pairing.qr_svg && h("img", { class: "qr", src: `data:image/svg+xml,${encodeURIComponent(pairing.qr_svg)}`, alt: "QR code of the pairing link", width: 256, height: 256 }),
    h("div", {}, h("p", {}, "Scan the QR code with the camera of the new device, or open this address there, choose “Enter a pairing code” and enter the digits:"), h("p", { class: "address" }, location.origin), h("p", { class: "digits" }, digits)),
  );
  const actions = h("div", { class: "row" });
  let timers = [];
  const stop = () => {
    timers.forEach(clearInterval);
    timers = [];
    document.removeEventListener("visibilitychange", poll);
  };
  const cancel = () => {
    stop();
    end();
    onDone();
  };
  const finish = (text, ...buttons) => {
    const hadFocus = actions.contains(document.activeElement);
    stop();
    setText(state, text);
    codes.remove();
    countdown.remove();
    warning?.remove();
    actions.replaceChildren(...buttons);
    if (hadFocus) buttons[0].focus();
  };
  const restart = () => api.catchApiError(onRestart, (error) => setText(state, error.message));
  const onExpired = () => finish("This code has expired.", button("New code", restart, { class: "button primary" }), button("Cancel", onDone));
  async function poll() {
    if (document.hidden || !timers.length) return;
    const { state: current } = await api.catchApiError(() => api.get(`/pairings/${pairing.id}`), (error) => ({ state: error.kind === "not-found" ? "expired" : "waiting" }));
    if (!timers.length) return;
    if (current === "expired") onExpired();
    if (current !== "paired") return;
    state.classList.add("paired");
    finish(`Paired. ${isolate(device.name)} is signed in.`, button("Done", onDone, { class: "button primary" }));
    onPaired();
  }
  const tick = () => {
    setText(countdown, `${formatCountdown(expiresAt - api.now())} left`);
    if (api.now() >= expiresAt) onExpired();
  };
  const warning = note && h("p", { class: "note" }, note);
  actions.append(button("Cancel", cancel));
  container.replaceChildren(...[title, warning, codes, state, countdown, actions].filter(Boolean));
  timers = [setInterval(poll, POLL_INTERVAL), setInterval(tick, 1000)];
  document.addEventListener("visibilitychange", poll);
  tick();
  title.focus();
  return stop;
}
