// Keys in words, and the fields of a new key, for "Devices" and "People".

import * as api from "../app/api.js";
import { field, h, setFieldError, setText } from "../app/dom.js";
import { MINUTE, formatAge, formatDay, formatDayTime } from "../app/format.js";
import { describeFailure } from "./failures.js";

/** What a new device may do: words, hint, scopes. */
const CHOICES = [
  ["See and add entries", "For a phone, tablet or computer", ["read", "write"]],
  ["Add entries only", "For a watch, a button or a scale", ["write"]],
  ["See entries only", "For a display", ["read"]],
  ["See and add entries, and manage devices and backups", "For a personal device", ["read", "write", "manage"]],
];
const METRICS_CHOICE = ["Read the server's metrics only", "For Prometheus", ["metrics"]];

/** Returns what a key with these scopes can do, as the rest of "can …". */
export function abilities(scopes) {
  const has = (scope) => scopes.includes(scope);
  const entries = has("read") && has("write") ? "see and add entries" : has("read") ? "see entries" : has("write") ? "add entries" : null;
  const manages = has("admin") ? "manage everything" : has("manage") ? "manage devices and backups" : null;
  return [entries, manages, has("metrics") && !has("admin") && "read the server's metrics"].filter(Boolean).join(" and ");
}

/** Describes scopes in words: "Can add entries, cannot see them". */
export function inWords(scopes) {
  const has = (scope) => scopes.includes(scope);
  const limit = has("read") === has("write") ? "" : has("write") ? ", cannot see them" : ", cannot add any";
  return `Can ${abilities(scopes)}${limit}`;
}

/** Describes when a key was added and last used, and when it expires. */
function dates({ created_at: created, last_used_at: lastUsed, expires_at: expires }) {
  return [
    created && `Added ${formatDay(Date.parse(created))}`,
    lastUsed ? `last used ${formatAge((api.now() - Date.parse(lastUsed)) / MINUTE)}` : created && "never used",
    expires && `expires ${formatDayTime(Date.parse(expires))}`,
  ].filter(Boolean).join(" · ");
}

/** Returns the name of a key, what it may do and its dates. */
export function keyDetails(key) {
  return [h("p", { class: "device-name" }, h("bdi", {}, key.name)), h("p", { class: "muted small" }, inWords(key.scopes)), h("p", { class: "muted small" }, dates(key))];
}

/** Returns the path of a key in a collection such as `/keys`. Browsers turn `/keys/..` into `/`. */
export function keyPath(collection, name) {
  if ([".", ".."].includes(name)) throw new api.ApiError("invalid", "A key with this name can only be revoked on the command line");
  return `${collection}/${encodeURIComponent(name)}`;
}

/** Returns the end of a day in this device's zone. */
const endOfDay = (date) => new Date(`${date}T23:59:59`).toISOString();

/**
 * Creates the fields of a new key: `elements`, the request body `read()`, and `showErrors(error)`, which null clears.
 * `withMetrics`: the key is one of the owner, who alone can read the metrics.
 */
export function newKeyFields({ withMetrics }) {
  const choices = withMetrics ? [...CHOICES, METRICS_CHOICE] : CHOICES;
  const name = h("input", { type: "text", required: true, maxlength: 50, pattern: "[A-Za-z0-9._\\-]+", title: "Letters, digits, dots, hyphens and underscores", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const expires = h("input", { type: "date", min: new Date(api.now()).toISOString().slice(0, 10) });
  const radio = ([words, hint], n) => h("label", { class: "checkbox" }, h("input", { type: "radio", name: "scopes", value: n, checked: n === 0 }), h("span", {}, words, h("span", { class: "muted small" }, ` ${hint}`)));
  const scopes = h("fieldset", { class: "choices" }, h("legend", {}, "What may it do?"), choices.map(radio));
  const formError = h("p", { class: "field-error", role: "alert" });
  const read = () => ({
    name: name.value.trim(),
    scopes: choices[scopes.querySelector(":checked").value][2],
    ...(expires.value && { expires_at: endOfDay(expires.value) }),
  });
  const showErrors = (error) => {
    setText(formError, "");
    if (!error) return;
    const unmatched = error.errors.filter(({ field: fieldName, message }) => {
      const control = { name, expires_at: expires }[fieldName];
      if (control) setFieldError(control, message);
      return !control;
    });
    // The only conflict that the user can resolve here is that of the name.
    if (error.status === 409) setFieldError(name, error.message);
    else if (!error.errors.length || unmatched.length) setText(formError, describeFailure(error));
    [name, expires].find((control) => control.hasAttribute("aria-invalid"))?.focus();
  };
  const elements = [field("Name", name, "such as phone or kitchen"), scopes, field("Last day (optional)", expires, "the device works up to the end of it"), formError];
  return { elements, read, showErrors };
}
