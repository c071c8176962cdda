"use strict";
// Reads the token out of the fragment, out of the address bar as well, and waits for a person to press Continue.
(() => {
  const byId = (id) => document.getElementById(id);
  const own = location.pathname.startsWith("/.maquette/");
  const asked = own ? new URLSearchParams(location.search).get("next") : location.pathname + location.search;
  byId("next").value = asked || "/";
  const tokenIn = (text) => {
    const at = text.indexOf("#");
    return at < 0 ? null : new URLSearchParams(text.slice(at + 1)).get("token");
  };
  const take = () => {
    const token = tokenIn(location.hash);
    if (!token) return;
    history.replaceState(null, "", location.pathname + location.search);
    byId("token").value = token;
    byId("paste").hidden = true;
    byId("lead").textContent = "Your link was recognised. Continue to " + location.host + ".";
    byId("continue").focus();
  };
  byId("form").addEventListener("submit", () => {
    const field = byId("token");
    field.value = tokenIn(field.value) || field.value.trim();
  });
  addEventListener("hashchange", take);
  take();
})();
