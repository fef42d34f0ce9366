// The document's title: the day or the section that is shown, the person and the name of the app.

const NAME = document.title;
const parts = { view: null, person: null };

/** Changes parts of the title; null removes one. */
export function setTitle(changes) {
  Object.assign(parts, changes);
  document.title = [parts.view, parts.person, NAME].filter(Boolean).join(" · ");
}
