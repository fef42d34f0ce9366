// The sign-in dialog, the key of a sign-in link, and the sign-in by a reverse proxy.

import * as api from "./api.js";
import { button, byId, field, h, setFieldError, setText } from "./dom.js";
import * as session from "./session.js";

const ERRORS = {
  unauthorized: "Invalid API key",
  unreachable: "Can't reach the server. Check that it is running and that this device is on the same network.",
  "rate-limited": "Too many failed attempts. Wait a minute and try again.",
};

/** Address of the dashboard that the service worker leaves to the network, so that the proxy can ask to sign in. */
const PROXY_SIGN_IN = "/?sign-in";
const isFromProxySignIn = location.pathname + location.search === PROXY_SIGN_IN;
// Reloading the page may use the cache again.
if (isFromProxySignIn) window.history.replaceState(null, "", `/${location.hash}`);

/** Opens the sign-in page of the proxy, which leads back to the dashboard. */
export const openProxySignIn = () => location.assign(PROXY_SIGN_IN);

/** Signs in as the person whom a proxy names; returns the error if it names nobody, or null. */
export const signInByProxy = () => api.catchApiError(async () => {
  session.signInByProxy(await api.get("/me", { candidateKey: api.NO_KEY }));
  return null;
}, (error) => error);

/** Signs in at the start, without a key, if the server trusts a proxy to do it; reports whether no key is needed. */
export async function startByProxy() {
  const error = await api.catchApiError(async () => {
    // Without such a proxy, requests without a key would be refused, and reported in the console.
    const { proxy_sign_in: isPossible } = await api.get("/info", { candidateKey: api.NO_KEY });
    return isPossible ? signInByProxy() : new api.ApiError("unauthorized");
  }, (caught) => caught);
  const mustOpen = Boolean(error?.isFromProxy) && !isFromProxySignIn;
  if (mustOpen) openProxySignIn();
  return !error || mustOpen;
}

/** Returns the key without what was copied along with it. */
const trimmed = (text) => text.trim().replace(/^Bearer\s+/i, "");

/** Returns the key of the link with which the page was opened, once, or null. */
export function takeLinkedKey() {
  const key = trimmed(window.linkedKey ?? "");
  delete window.linkedKey;
  return key || null;
}

/** Returns the response of `GET /me` to a key as `{me}`, or `{error}` with a message if the key cannot be used. */
export async function checkKey(key) {
  // Other characters cannot be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return { error: "Keys can't contain spaces or special characters" };
  return api.catchApiError(async () => {
    const me = await api.get("/me", { candidateKey: key });
    const isUsable = me.key.scopes.includes("read") || me.key.scopes.includes("write");
    return isUsable ? { me } : { error: "This key can't view or add entries. Use a key with the scope read or write." };
  }, (error) => ({ error: ERRORS[error.kind] ?? error.message }));
}

/**
 * Opens the sign-in dialog. `isDismissible`: the page can be used without signing in. `linkedKey` is tried at once.
 * `onSignedIn` gets the identity of the key that was replaced, if any.
 */
export function openSignIn(onSignedIn, isDismissible, linkedKey = null) {
  if (!byId("sign-in").open) showSignIn(onSignedIn, isDismissible);
  if (!linkedKey) return;
  const form = byId("sign-in").querySelector("form");
  form.elements.key.value = linkedKey;
  // Links are for setting up a device.
  form.elements.remember.checked = session.key() === null || session.isRemembered();
  form.requestSubmit();
}

function showSignIn(onSignedIn, isDismissible) {
  const dialog = byId("sign-in");
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true });
  const remember = h("input", { type: "checkbox", name: "remember", checked: session.isRemembered() });
  const submitButton = h("button", { class: "button primary" }, "Sign in");
  const setBusy = (isBusy) => {
    submitButton.disabled = isBusy;
    setText(submitButton, isBusy ? "Signing in…" : "Sign in");
  };
  let isSignedIn = false;
  const onSubmit = async (event) => {
    event.preventDefault();
    const previous = session.identity();
    const value = trimmed(key.value);
    setBusy(true);
    const { me, error = "" } = await checkKey(value).finally(() => setBusy(false));
    setFieldError(key, error);
    if (error) return key.focus();
    session.signIn(value, me, remember.checked);
    isSignedIn = true;
    dialog.close();
    onSignedIn(previous);
  };
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: onSubmit },
      h("img", { src: "/static/icon.svg", alt: "", width: 56, height: 56 }),
      h("h2", { id: "sign-in-title" }, "Coffee Tracker"),
      h("p", { class: "muted" }, "Track your caffeine and heart rate."),
      field("API key", key),
      h("label", { class: "checkbox" }, remember, h("span", {}, "Stay signed in. Anyone using this browser can see and add entries.")),
      submitButton,
      isDismissible && button("Not now", () => dialog.close()),
      h("p", { class: "muted small" }, h("a", { href: "/docs#key" }, "Where do I find my key?")),
    ),
  );
  dialog.classList.toggle("dismissible", isDismissible);
  dialog.oncancel = (event) => isDismissible || event.preventDefault();
  // Browsers close a dialog on the second Esc in any case.
  dialog.onclose = () => isDismissible || isSignedIn || dialog.showModal();
  dialog.showModal();
}
