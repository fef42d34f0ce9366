// Applies the theme that the user chose, before the page is first painted: a script that is neither deferred nor a
// module. Without a choice, the theme is the system's.

(() => {
  const ITEM = "coffee.theme";
  const MEDIA = { light: "not all", dark: "all" };

  function choice() {
    try {
      return JSON.parse(localStorage.getItem(ITEM));
    } catch {
      // The browser blocks storage.
      return null;
    }
  }

  function apply() {
    const theme = choice();
    document.querySelector("#dark-theme").media = MEDIA[theme] ?? "(prefers-color-scheme: dark)";
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
