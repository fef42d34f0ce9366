// Jobs: long work of the server, started by a request and followed until its end, also after a reload.

import * as api from "../app/api.js";
import { h, setText } from "../app/dom.js";
import { formatBytes } from "../app/format.js";

/** Interval at which a running job is loaded, in ms. */
const INTERVAL = 500;

const TITLES = {
  backup: "Backing up",
  verify: "Verifying",
  "restore-preview": "Comparing",
  restore: "Restoring",
  upload: "Checking the upload",
  prune: "Deleting entries",
  "remove-person": "Removing",
  "import-preview": "Reading the file",
  import: "Importing",
};
const STAGES = { copying: "copying", checking: "checking the copy" };
/** What the user must know about a job that did not end, if it is not the usual. */
const INTERRUPTED = {
  "import-preview": "The server stopped while it read the file. Nothing was stored: choose the file again.",
  import: "The server stopped during the import. Choose the file again: what was stored already is skipped.",
};

const isActive = ({ state }) => state === "queued" || state === "running";

/** Describes a job that runs. */
export function describe({ kind, state, stage, progress }) {
  if (state === "queued") return `${TITLES[kind]}: waiting for another task`;
  const percent = stage === "copying" && progress > 0 ? ` ${Math.round(progress * 100)} %` : "";
  return `${TITLES[kind]}…${STAGES[stage] ? ` ${STAGES[stage]}${percent}` : ""}`;
}

/** Number of requests that this page has sent to start a job. */
let startCount = 0;

/** Sends a request that starts a job, and returns the job. */
export function start(method, path, options) {
  startCount += 1;
  return api.requestJson(method, path, options);
}

/** Returns the last jobs of the person, newest first. */
export const list = async () => (await api.get("/jobs")).jobs;

/**
 * Returns the newest job if it is queued or running, so that the page can follow it after a reload, or null. A job that
 * the page starts during this request is followed already.
 */
export async function ongoing() {
  const countBefore = startCount;
  const [job] = await list();
  return startCount === countBefore && job && isActive(job) ? job : null;
}

/**
 * Follows a job and returns its result. `onProgress` gets the job whenever it was loaded. A connection that is lost
 * meanwhile is waited for, since the job goes on.
 */
export async function follow(job, onProgress) {
  while (isActive(job)) {
    onProgress(job);
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
    const { id } = job;
    job = await api.catchApiError(() => api.get(`/jobs/${id}`), (error) => {
      if (!error.isTemporary || error.kind === "unauthorized" || error.kind === "key-changed") throw error;
      return job;
    });
  }
  if (job.state === "interrupted") throw new api.ApiError("interrupted", INTERRUPTED[job.kind] ?? "The server stopped before this was finished. Nothing was changed, or the change is complete.");
  if (job.state === "failed") throw new api.ApiError("failed", job.problem.detail);
  return job.result;
}

/** Starts a job by a request and follows it. */
export const run = async (method, path, options, onProgress) => follow(await start(method, path, options), onProgress);

/**
 * Creates a place that shows the progress of a job or a transfer: `element`, `show(job)`, `say(message, done)`, where
 * `done` is `{bytes, of}`, and `hide()`.
 */
export function progressView() {
  const text = h("p", { class: "small" });
  // Not announced: it changes all the time.
  const figures = h("p", { class: "muted small" });
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const element = h("div", { class: "job", hidden: true }, h("div", { role: "status" }, text), bar, figures);
  const set = (message, share, detail) => {
    element.hidden = false;
    setText(text, message);
    setText(figures, detail);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
  const show = (job) => {
    const share = job.stage !== "checking" && job.progress > 0 ? job.progress : null;
    set(describe(job), share, job.stage === "importing" && share !== null ? `${Math.floor(share * 100)} %` : "");
  };
  const say = (message, done = null) => {
    const share = done && (done.of > 0 ? done.bytes / done.of : 0);
    set(message, share, done ? `${Math.floor(100 * share)} % · ${formatBytes(done.bytes)} of ${formatBytes(done.of)}` : "");
  };
  return { element, show, say, hide: () => (element.hidden = true) };
}
