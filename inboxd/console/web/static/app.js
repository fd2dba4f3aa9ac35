// Loads the page again when the server says that it may look different, and replaces the parts that do.
"use strict";

(async () => {
  const place = document.querySelector("[data-load]");
  if (!place) return;
  place.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(place.dataset.load, { credentials: "same-origin" });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById(place.id);
    if (response.ok && fresh) place.replaceChildren(...fresh.childNodes);
  } catch { /* the link stays */ }
  place.removeAttribute("aria-busy");
})();

(() => {
  const parts = () => [...document.querySelectorAll("[data-live]")];
  if (!parts().length || !window.EventSource) return;
  const connection = document.getElementById("connection");
  let isLoading = false, isStale = false;

  const replace = (fresh) => {
    for (const part of parts()) {
      const next = fresh.getElementById(part.id);
      if (!next || next.innerHTML === part.innerHTML) continue;
      if (part.contains(document.activeElement) && document.activeElement !== document.body) continue; // a keyboard user is there
      if (part.hasAttribute("aria-live")) part.replaceChildren(...next.cloneNode(true).childNodes); // the region itself must stay
      else part.replaceWith(document.importNode(next, true));
    }
  };

  const load = async () => {
    if (isLoading) { isStale = true; return; }
    isLoading = true;
    try {
      const response = await fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin", redirect: "follow" });
      if (response.ok) replace(new DOMParser().parseFromString(await response.text(), "text/html"));
    } catch { /* the stream reports a lost connection */ } finally {
      isLoading = false;
      if (isStale) { isStale = false; setTimeout(load, 500); }
    }
  };

  const source = new EventSource("/events");
  let wasLost = false;
  source.addEventListener("change", () => { if (!document.hidden) load(); else isStale = true; });
  source.addEventListener("open", () => { connection.textContent = ""; if (wasLost) load(); wasLost = false; });
  source.addEventListener("error", () => { wasLost = true; connection.textContent = "The connection is lost: the page shows an earlier state."; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && isStale) { isStale = false; load(); } });
  addEventListener("pagehide", () => source.close());
})();
