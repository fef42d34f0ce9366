// Upload of a file: progress, "Cancel", and "Try again" with the same file after a failure.

import * as api from "../app/api.js";
import { button, h, setText } from "../app/dom.js";
import { formatBytes, isolate } from "../app/format.js";
import { describeFailure } from "./failures.js";
import * as jobs from "./jobs.js";

/** Returns the headers of a response. */
const headersOf = (request) => request.getAllResponseHeaders().trim().split("\r\n").filter(Boolean).map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);

/** Returns a replacement of `fetch` that reports how many bytes were sent, which `fetch` cannot. */
const sendWithProgress = (onProgress) => (path, { method, headers, body, signal }) =>
  new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    // The owner's key may have been asked for meanwhile.
    if (signal.aborted) return reject(signal.reason);
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded }) => onProgress(loaded));
    request.addEventListener("load", () => resolve(new Response(request.responseText, { status: request.status, headers: headersOf(request) })));
    request.addEventListener("error", () => reject(new TypeError("The connection was lost")));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    onProgress(0);
    request.send(body);
  });

/**
 * Creates the button and the progress of an upload to `path`: `controls`, `element`, `send(file)`, `setEnabled(isEnabled)`,
 * `isSending()`, `focus()` and `close()`. `input` are attributes of the input element. `onReceived` gets the job that reads
 * the file, and the name of the file.
 */
export function uploadView({ path, label, input: attributes }, onReceived) {
  const progress = jobs.progressView();
  const failure = h("p", { class: "field-error", role: "alert" });
  let file = null;
  let isEnabled = true;
  /** Cancels the upload that is in progress. */
  let sending = null;

  const choose = () => {
    const [chosen] = input.files;
    // The same file can be chosen again.
    input.value = "";
    if (chosen) send(chosen);
  };
  const discard = () => {
    sending?.abort();
    sending = file = null;
    show();
    start.focus();
  };
  const show = (problem = "") => {
    setText(failure, problem);
    actions.hidden = !file;
    retry.hidden = !problem;
    start.disabled = sending !== null || !isEnabled;
    if (!sending) progress.hide();
  };

  async function send(sent) {
    file = sent;
    sending = new AbortController();
    const { signal } = sending;
    const onProgress = (bytes) => signal.aborted || progress.say(`Uploading ${isolate(sent.name)}…`, { bytes: Math.min(bytes, sent.size), of: sent.size });
    show();
    let problem = "";
    const job = await api.catchApiError(() => jobs.start("POST", path, { file: sent, signal, transport: sendWithProgress(onProgress) }), (error) => {
      problem = describeFailure(error, `${isolate(sent.name)} is still selected.`);
      return null;
    }).catch((error) => {
      if (!signal.aborted) throw error;
    });
    // Another file may have been chosen since this upload was cancelled.
    if (sending?.signal !== signal) return;
    sending = null;
    file = problem ? sent : null;
    show(problem);
    // The button that had it was hidden or disabled meanwhile.
    if (document.activeElement === document.body) (problem ? retry : start).focus();
    if (job) await onReceived(job, sent.name);
  }

  const input = h("input", { type: "file", class: "visually-hidden", tabindex: -1, onchange: choose, ...attributes });
  const start = button(label, () => input.click());
  const retry = button("Try again", () => send(file), { class: "button primary", hidden: true });
  const actions = h("div", { class: "row", hidden: true }, retry, button("Cancel", discard, { "aria-label": "Cancel upload" }));
  return {
    controls: [start, input],
    element: h("div", { class: "upload" }, progress.element, failure, actions),
    send: (chosen) => !start.disabled && send(chosen),
    setEnabled(value) {
      isEnabled = value;
      start.disabled = sending !== null || !isEnabled;
    },
    isSending: () => sending !== null,
    focus: () => start.focus(),
    close: () => sending?.abort(),
  };
}
