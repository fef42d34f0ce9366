// Text to copy, with a button that copies it.

import { button, h, setText } from "../app/dom.js";

/** How long the button shows what it did, in ms. */
const NOTE_DURATION = 2000;

/** Copies the text of an element. The clipboard exists only in secure contexts; elsewhere the text is selected instead. */
async function copy(element, copyButton) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    setText(copyButton, "Copied");
  } catch {
    getSelection().selectAllChildren(element);
    setText(copyButton, "Selected");
  }
  setTimeout(() => setText(copyButton, "Copy"), NOTE_DURATION);
}

/** Creates a block of text with a "Copy" button. */
export function example(label, text) {
  const code = h("code", {}, text);
  const copyButton = button("Copy", () => copy(code, copyButton), { class: "copy", "aria-label": `Copy: ${label}`, "aria-live": "polite" });
  return h("div", { class: "example" }, h("pre", { tabindex: 0, role: "region", "aria-label": label }, code), copyButton);
}
