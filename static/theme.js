// Applies the theme that the user chose, before the page is first painted: a script that is neither deferred nor a
// module. Without a choice, the theme is the system's.

(() => {
  const ITEM = "coffee.theme";
  const MEDIA = { light: "not all", dark: "all" };
  let darkTheme = document.querySelector("#dark-theme");

  function choice() {
    try {
      return JSON.parse(localStorage.getItem(ITEM));
    } catch {
      // The browser blocks storage.
      return null;
    }
  }

  /** Sets the media for which the dark theme applies. */
  function setDarkMedia(media) {
    if (darkTheme.media === media) return;
    if (document.body) {
      darkTheme.media = media;
      return;
    }
    // The browser would paint without a style sheet that did not match when it was parsed. It waits for this one.
    const link = darkTheme.cloneNode();
    link.media = media;
    link.setAttribute("blocking", "render");
    darkTheme.replaceWith(link);
    darkTheme = link;
  }

  function apply() {
    const theme = choice();
    setDarkMedia(MEDIA[theme] ?? "(prefers-color-scheme: dark)");
    for (const meta of document.querySelectorAll("meta[name=theme-color]")) {
      const scheme = meta.dataset.scheme;
      meta.media = theme in MEDIA ? (theme === scheme ? "all" : "not all") : `(prefers-color-scheme: ${scheme})`;
    }
  }

  apply();
  addEventListener("coffee-theme", apply);
  // The user chose another theme in another window.
  addEventListener("storage", ({ key }) => key === ITEM && dispatchEvent(new Event("coffee-theme")));
})();
