// The document's title: the day that is shown, the person and the name of the app.

const NAME = document.title;
const parts = { day: null, person: null };

/** Changes parts of the title; null removes one. */
export function setTitle(changes) {
  Object.assign(parts, changes);
  document.title = [parts.day, parts.person, NAME].filter(Boolean).join(" · ");
}
