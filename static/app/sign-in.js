// The sign-in dialog.

import * as api from "./api.js";
import { button, byId, field, h, setFieldError, setText } from "./dom.js";
import * as session from "./session.js";

const ERRORS = {
  unauthorized: "Invalid API key",
  unreachable: "Can't reach the server. Check that it is running and that this device is on the same network.",
  "rate-limited": "Too many failed attempts. Wait a minute and try again.",
};

/** Signs in if the server accepts the key, else returns an error message. */
async function tryKey(key, remember) {
  // Other characters cannot be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return "Keys can't contain spaces or special characters";
  try {
    const { scopes } = (await api.get("/me", { candidateKey: key })).key;
    if (!scopes.includes("read") && !scopes.includes("write")) return "This key can't view or add entries. Use a key with the scope read or write.";
    session.signIn(key, scopes, remember);
    return null;
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    return ERRORS[error.kind] ?? error.message;
  }
}

/** Opens the sign-in dialog. `isDismissible`: the page can be used without signing in. */
export function openSignIn(onSignedIn, isDismissible) {
  const dialog = byId("sign-in");
  if (dialog.open) return;
  const key = h("input", { type: "password", autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", required: true, autofocus: true });
  const remember = h("input", { type: "checkbox", checked: session.isRemembered() });
  const submitButton = h("button", { class: "button primary" }, "Sign in");
  const setBusy = (isBusy) => {
    submitButton.disabled = isBusy;
    setText(submitButton, isBusy ? "Signing in…" : "Sign in");
  };
  let isSignedIn = false;
  const onSubmit = async (event) => {
    event.preventDefault();
    const previousOwner = session.owner();
    setBusy(true);
    const error = await tryKey(key.value.trim().replace(/^Bearer\s+/i, ""), remember.checked).finally(() => setBusy(false));
    setFieldError(key, error ?? "");
    if (error) return key.focus();
    isSignedIn = true;
    dialog.close();
    onSignedIn(previousOwner);
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
