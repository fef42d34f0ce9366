// Takes the API key of a sign-in link (/#key=ct_…) out of the address before anything else runs, so that it is
// neither shown nor kept in the history. A script that is neither deferred nor a module. The dashboard takes the key
// from `linkedKey` (app/sign-in.js).

(() => {
  /** Returns the fragment without percent-encoding, which some apps add to links. */
  function fragment() {
    try {
      return decodeURIComponent(location.hash);
    } catch {
      // A percent sign of the key itself.
      return location.hash;
    }
  }

  function takeKey() {
    const [, key] = /^#key=(.*)$/s.exec(fragment()) ?? [];
    if (key === undefined) return;
    history.replaceState(null, "", location.pathname + location.search);
    window.linkedKey = key;
    dispatchEvent(new Event("coffee-key-link"));
  }

  takeKey();
  // A link was opened in a window that shows the dashboard already.
  addEventListener("hashchange", takeKey);
})();
