// The pages are whole without this. It has the overview made anew every two seconds, shows the tail, and knows keys.
"use strict";
(() => {
  const every = 2000, kept = 500;
  const live = document.getElementById("live"), tail = document.getElementById("tail");
  let going = true, timer = 0;

  // Each part of the page is put in the place of the one of the same id. Who is in a link there stays in it.
  async function refresh() {
    const answer = await fetch(location.href, {headers: {Accept: "text/html"}});
    if (!answer.ok) throw new Error(answer.statusText || answer.status);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = next.getElementById(part.id);
      if (!other || part.innerHTML === other.innerHTML) continue;
      const focused = part.contains(document.activeElement) && document.activeElement.id;
      const shifts = Array.from(part.querySelectorAll(".wide"), (w) => w.scrollLeft);
      part.replaceChildren(...other.childNodes);
      part.querySelectorAll(".wide").forEach((w, i) => { w.scrollLeft = shifts[i] || 0; });
      if (focused) document.getElementById(focused)?.focus();
    }
  }

  function say(text, bad) {
    live.textContent = text;
    live.classList.toggle("bad", !!bad);
    live.setAttribute("aria-pressed", String(going && !bad));
  }

  async function turn() {
    clearTimeout(timer);
    if (!going || document.hidden) return;
    try {
      await refresh();
      say("Live");
    } catch (e) {
      say("No answer", true);
    }
    timer = setTimeout(turn, every);
  }

  // The tail.
  const body = tail && tail.tBodies[0], state = document.getElementById("state");
  let source = null, last = 0, waiting = [], frame = 0, seen = 0;

  function cell(row, text, kind) {
    const td = row.insertCell();
    if (kind) td.className = kind;
    td.textContent = text;
    return td;
  }

  function draw() {
    frame = 0;
    const list = waiting.slice(-kept);
    waiting = [];
    for (const e of list) {
      const row = body.insertRow(0);
      row.className = "new";
      setTimeout(() => { row.className = ""; }, 1500);
      cell(row, String(e.revision).replace(/\B(?=(\d{3})+$)/g, "\u202f"), "n");
      cell(row, e.type);
      const key = cell(row, "", "key"), bdi = document.createElement("bdi");
      bdi.textContent = e.key + (e.cut ? " …" : "");
      if (e.link) {
        const a = document.createElement("a");
        a.href = "key?key=" + encodeURIComponent(e.link);
        a.append(bdi);
        key.append(a);
      } else {
        key.append(bdi);
      }
      cell(row, e.type === "delete" ? "" : String(e.size), "n");
      cell(row, e.value, "value");
    }
    while (body.rows.length > kept) body.deleteRow(-1);
    state.textContent = "Following. " + seen + (seen === 1 ? " change" : " changes") + " so far.";
  }

  function follow() {
    const where = new URL(tail.dataset.events, location.href);
    if (last) where.searchParams.set("from", last + 1);
    source = new EventSource(where);
    source.onopen = () => { state.textContent = "Following. Changes come here as they are made."; say("Live"); };
    source.addEventListener("change", (m) => {
      const e = JSON.parse(m.data);
      last = Math.max(last, e.revision);
      seen++;
      waiting.push(e);
      if (waiting.length > 2 * kept) waiting = waiting.slice(-kept); // a page in the background draws nothing
      if (!frame) frame = requestAnimationFrame(draw);
    });
    source.addEventListener("end", (m) => { stop("It has ended: " + JSON.parse(m.data)); });
    source.onerror = () => {
      source.close();
      say("No answer", true);
      state.textContent = "The connection is gone; it is tried again.";
      clearTimeout(timer);
      if (going) timer = setTimeout(follow, every);
    };
  }

  function stop(why) {
    going = false;
    source?.close();
    clearTimeout(timer);
    say("Stopped");
    if (state) state.textContent = why || "Stopped.";
  }

  function toggle() {
    if (!live) return;
    if (going) { stop(); return; }
    going = true;
    say("Live");
    if (tail) follow(); else turn();
  }

  if (live) {
    live.hidden = false;
    live.addEventListener("click", toggle);
    if (tail) follow(); else if (!document.querySelector(".problem")) timer = setTimeout(turn, every);
    document.addEventListener("visibilitychange", () => { if (!document.hidden && going && !tail) turn(); });
  }

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const there = e.target;
    if (there instanceof Element && there.matches("input, select, textarea")) {
      if (e.key === "Escape") there.blur();
      return;
    }
    const press = (where) => {
      const a = document.querySelector(where);
      if (a) { e.preventDefault(); a.click(); }
    };
    switch (e.key) {
    case "/": {
      const q = document.getElementById("q");
      e.preventDefault();
      if (q) { q.focus(); q.select(); } else { location.href = "/status/keyspaces"; }
      break;
    }
    case "n": press("a[rel=next]"); break;
    case "p": press("a[rel=prev]"); break;
    case "o": location.href = "/status/"; break;
    case " ":
      if (live && !(there instanceof Element && there.matches("button, a, summary"))) { e.preventDefault(); toggle(); }
      break;
    }
  });
})();
