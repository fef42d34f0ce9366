// Takes the API key of a sign-in link (/#key=ct_…) or the code of a pairing link (/#pair=…) out of the address before
// anything else runs, so that it is neither shown nor kept in the history. A script that is neither deferred nor a module.
// The page takes it from `signInLink` (app/sign-in.js).

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

  function takeLink() {
    const [, kind, value] = /^#(key|pair)=(.*)$/s.exec(fragment()) ?? [];
    if (value === undefined) return;
    history.replaceState(null, "", location.pathname + location.search);
    window.signInLink = { [kind]: value };
    dispatchEvent(new Event("coffee-link"));
  }

  takeLink();
  // A link was opened in a window that shows the dashboard already.
  addEventListener("hashchange", takeLink);
})();
