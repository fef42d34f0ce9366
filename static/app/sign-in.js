// The sign-in dialog, the key or the pairing code of a link, and the sign-in by a reverse proxy.

import * as api from "./api.js";
import { button, byId, field, h, setFieldError, setText } from "./dom.js";
import * as session from "./session.js";

const ERRORS = {
  unauthorized: "Invalid API key",
  unreachable: "Can't reach the server. Check that it is running and that this device is on the same network.",
  "rate-limited": "Too many failed attempts. Wait a minute and try again.",
};

/** Query of a page's address that the service worker leaves to the network, so that the proxy can ask to sign in. */
const PROXY_SIGN_IN = "?sign-in";
const isFromProxySignIn = location.search === PROXY_SIGN_IN;
// Reloading the page may use the cache again.
if (isFromProxySignIn) window.history.replaceState(null, "", location.pathname + location.hash);

/** Opens the sign-in page of the proxy, which leads back to this page. */
export const openProxySignIn = () => location.assign(location.pathname + PROXY_SIGN_IN);

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
export const trimKey = (text) => text.trim().replace(/^Bearer\s+/i, "");

/** Returns what the link with which the page was opened signs in with, once: `{key}`, `{code}`, or null. */
export function takeLink() {
  const { key, pair } = window.signInLink ?? {};
  delete window.signInLink;
  if (pair) return { code: pair.trim() };
  return key && trimKey(key) ? { key: trimKey(key) } : null;
}

/** Returns a key with the response of `GET /me` to it, `{key, me}`, or `{error}` with a message if it cannot be used. */
export async function checkKey(key) {
  // Other characters cannot be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return { error: "Keys can't contain spaces or special characters" };
  return api.catchApiError(async () => {
    const me = await api.get("/me", { candidateKey: key });
    const isUsable = me.key.scopes.includes("read") || me.key.scopes.includes("write");
    return isUsable ? { key, me } : { error: "This key can't view or add entries. Use a key that can." };
  }, (error) => ({ error: ERRORS[error.kind] ?? error.message }));
}

/**
 * Exchanges a pairing code, `{code}` or `{digits}`, for a key; returns it as `checkKey` does. A code works once.
 */
export const exchangeCode = (body) => api.catchApiError(async () => {
  const { key, scopes, person } = await api.requestJson("POST", "/pair", { body, candidateKey: api.NO_KEY });
  return { key, me: { key: { scopes }, person } };
}, (error) => ({ error: ERRORS[error.kind] ?? error.message }));

const TEXT_INPUT = { autocapitalize: "off", spellcheck: "false", required: true, autofocus: true };
/** Ways of signing in: the field, and how its text is exchanged for a key. */
const BY_KEY = {
  label: "API key",
  input: () => h("input", { type: "password", name: "key", autocomplete: "current-password", ...TEXT_INPUT }),
  check: (text) => checkKey(trimKey(text)),
  other: () => ["Enter a pairing code", BY_CODE],
};
const BY_CODE = {
  label: "Pairing code",
  hint: "Six digits, shown by another device under Settings, Devices, Add device.",
  input: () => h("input", { type: "text", name: "key", autocomplete: "one-time-code", inputmode: "numeric", ...TEXT_INPUT }),
  // A link has a longer code, and no digits are typed.
  check: (text, code) => (code ? exchangeCode({ code }) : /^(\D*\d){6}\D*$/.test(text) ? exchangeCode({ digits: text.replace(/\D/g, "") }) : { error: "Enter the six digits" }),
  other: () => ["Use an API key", BY_KEY],
};

/**
 * Opens the sign-in dialog. `isDismissible`: the page can be used without signing in. `link` (see `takeLink`) is tried
 * at once. `isAdding`: the present key is kept for its person. `onSignedIn` gets the identity of the key that was
 * replaced, if any.
 */
export function openSignIn(onSignedIn, { isDismissible = false, isAdding = false, link = null }) {
  if (!byId("sign-in").open || link) showSignIn(onSignedIn, { isDismissible, isAdding }, link?.code ? BY_CODE : BY_KEY, link);
}

function showSignIn(onSignedIn, options, method, link = null) {
  const { isDismissible, isAdding } = options;
  const dialog = byId("sign-in");
  const input = method.input();
  // Links are for setting up a device.
  const staysSignedIn = session.isRemembered() || (link !== null && session.key() === null);
  const remember = h("input", { type: "checkbox", name: "remember", checked: staysSignedIn });
  const submitButton = h("button", { class: "button primary" }, "Sign in");
  const setBusy = (isBusy) => {
    submitButton.disabled = isBusy;
    setText(submitButton, isBusy ? "Signing in…" : "Sign in");
  };
  let isSignedIn = false;
  const signIn = async (code = null) => {
    const previous = session.identity();
    setBusy(true);
    const { key, me, error = "" } = await Promise.resolve(method.check(input.value, code)).finally(() => setBusy(false));
    // The user has chosen the other way of signing in meanwhile.
    if (!input.isConnected) return;
    setFieldError(input, error);
    if (error) return input.focus();
    session.signIn(key, me, isAdding ? session.isRemembered() : remember.checked, { keepsPresent: isAdding });
    isSignedIn = true;
    dialog.close();
    onSignedIn(previous);
  };
  const onSubmit = (event) => {
    event.preventDefault();
    signIn();
  };
  const [otherLabel, otherMethod] = method.other();
  dialog.replaceChildren(
    h(
      "form",
      { onsubmit: onSubmit },
      h("img", { src: "/static/icon.svg", alt: "", width: 56, height: 56 }),
      h("h2", { id: "sign-in-title" }, isAdding ? "Add person" : "Coffee Tracker"),
      h("p", { class: "muted" }, isAdding ? "Sign in as another person. You stay signed in, too, and can switch at the top of the page." : "Track your caffeine and heart rate."),
      field(method.label, input),
      method.hint && h("p", { class: "muted small" }, method.hint),
      !isAdding && h("label", { class: "checkbox" }, remember, h("span", {}, "Stay signed in. Anyone using this browser can see and add entries.")),
      submitButton,
      isDismissible && button(isAdding ? "Cancel" : "Not now", () => dialog.close()),
      button(otherLabel, () => showSignIn(onSignedIn, options, otherMethod), { class: "link" }),
      h("p", { class: "muted small" }, h("a", { href: "/docs#key" }, "Where do I find my key?")),
    ),
  );
  dialog.classList.toggle("dismissible", isDismissible);
  dialog.oncancel = (event) => isDismissible || event.preventDefault();
  // Browsers close a dialog on the second Esc in any case.
  dialog.onclose = () => isDismissible || isSignedIn || dialog.showModal();
  if (!dialog.open) dialog.showModal();
  input.focus();
  if (link?.key) input.value = link.key;
  if (link) signIn(link.code);
}
