/* nixmill: what scripts add to pages that are complete without them.

   Elements say what they want:
     <body data-live="URL">    the page changes: listen there or on its own address, fetch it again, swap its parts
     data-facts="JSON"         what the first event says where nothing has changed since the page was made
     data-part="NAME"          a part that is swapped by name; scroll, focus and open <details> stay
     data-row                  a row for j and k; Enter opens its `a.open`, else its first link
     data-bad                  a failure for f
     data-jump                 where / goes; the last visible one wins
     data-keys                 a button that shows the keys; hidden where there is no script
     data-copy="TEXT"          a button that copies; hidden where there is no script
     <time datetime>           relative times stay right; `.since` counts on
     data-log="URL"            a log that grows: `data-offset` is how much of it stands here, `data-running` whether
                               more comes; rows are added to the last [data-log-rows] inside. [data-follow] is the
                               button that follows its end; lines are `.l#L12` with an <a href="#L12"> for the number. */
"use strict";
(() => {
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const one = (what, within = document) => within.querySelector(what);
  const shown = (element) => element.getClientRects().length > 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

  /* Times, in the words of nixmill.web.writing and nixmill.core.terminal_text. */
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function ago(seconds) {
    const distance = Math.abs(seconds);
    if (distance < 10) return "just now";
    const [unit, word] = UNITS.find(([unit]) => distance >= unit);
    const text = `${Math.floor(distance / unit)} ${word}`;
    return seconds >= 0 ? `${text} ago` : `in ${text}`;
  }
  function took(seconds) {
    if (seconds < 9.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const whole = Math.round(seconds), s = whole % 60, m = Math.floor(whole / 60) % 60;
    const h = Math.floor(whole / 3600) % 24, d = Math.floor(whole / 86400);
    if (d) return `${d} d ${h} h`;
    if (h) return `${h} h ${m} min`;
    return m ? `${m} min ${s} s` : `${s} s`;
  }
  /* The server's clock may differ from ours: its time when the page was made is on <html>. */
  const made = Number(document.documentElement.dataset.now) * 1000;
  let skew = made ? made - Date.now() : 0;
  function tick() {
    if (document.hidden) return;
    const now = Date.now() + skew;
    for (const time of all("time[datetime]")) {
      const seconds = (now - Date.parse(time.dateTime)) / 1000;
      const text = time.className === "since" ? took(seconds) : Math.abs(seconds) < 30 * 86400 ? ago(seconds) : "";
      if (text && time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);

  /* Parts of a page that changed. */
  let fetching = false, again = false;
  async function refresh() {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* The server is away; the event source tries again and tells when it is back. */ }
    fetching = false;
    if (again) { again = false; refresh(); }
  }
  function swap(fresh) {
    const now = Number(fresh.documentElement.dataset.now) * 1000;
    if (now) skew = now - Date.now();
    for (const part of all("[data-part]")) {
      const other = one(`[data-part="${CSS.escape(part.dataset.part)}"]`, fresh);
      if (!other || same(part, other)) continue;
      const mark = remember(part);
      part.className = other.className;
      part.replaceChildren(...document.adoptNode(other).childNodes);
      recall(part, mark);
    }
    document.title = fresh.title;
    const icon = one("link[rel=icon]"), newer = one("link[rel=icon]", fresh);
    if (icon && newer && icon.href !== newer.href) icon.href = newer.href;
    if (!fresh.body.hasAttribute("data-live")) stop();
    enhance();
    tick();
  }
  /* Tokens of forms and running times differ in each answer without anything having changed. */
  const bare = (element) => {
    const copy = element.cloneNode(true);
    for (const field of all("input[name=csrf]", copy)) field.remove();
    for (const time of all("time", copy)) time.textContent = "";
    for (const button of all("[data-copy]", copy)) button.hidden = true;
    for (const row of all(".at", copy)) { row.classList.remove("at"); if (!row.className) row.removeAttribute("class"); }
    for (const details of all("details", copy)) details.open = false;
    return copy.className + copy.innerHTML;
  };
  const same = (a, b) => bare(a) === bare(b);
  const key = (element) => element.closest("[data-row],[data-bad]")?.querySelector("a")?.getAttribute("href") || "";
  const label = (details) => key(details) + (one("summary", details)?.textContent || "");
  function remember(part) {
    const focus = part.contains(document.activeElement) ? document.activeElement : null;
    return {
      open: all("details[open]", part).map(label),
      at: one(".at", part) && key(one(".at", part)),
      focus: focus && [focus.tagName, focus.getAttribute("href"), key(focus)],
    };
  }
  function recall(part, mark) {
    for (const details of all("details", part)) if (mark.open.includes(label(details))) details.open = true;
    if (mark.at) all("[data-row]", part).find((row) => key(row) === mark.at)?.classList.add("at");
    if (!mark.focus) return;
    const [tag, href, of] = mark.focus;
    all(tag, part).find((e) => e.getAttribute("href") === href && key(e) === of)?.focus({ preventScroll: true });
  }
  let live = document.body.hasAttribute("data-live") && "EventSource" in window, events = null, rest = 0;
  function hush() { events?.close(); events = null; clearInterval(rest); }
  function stop() { live = false; hush(); }
  function listen() {
    events = new EventSource(document.body.dataset.live || location.pathname + location.search);
    /* The first event tells how things stand now: mostly as on the page, which then needs no second request. */
    let first = true;
    events.addEventListener("changed", (event) => {
      const facts = one("[data-facts]")?.dataset.facts;
      const known = first && (!facts || facts === JSON.stringify(JSON.parse(event.data)));
      first = false;
      if (!known) refresh();
    });
    events.addEventListener("ended", () => { stop(); refresh(); });
  }
  /* Over HTTP/1 a browser has six connections to a host: a tab that nobody sees gives its own back, and looks every
     half a minute, for its title and icon. */
  function attend() {
    hush();
    if (document.hidden) rest = setInterval(refresh, 30000);
    else listen();
  }
  if (live) attend();
  document.addEventListener("visibilitychange", () => {
    if (!live) return;
    attend();
    if (!document.hidden) refresh();
  });

  /* Keys. */
  let bad = null;
  const reach = (element) => element.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
  function mark(row) {
    for (const other of all(".at")) other.classList.remove("at");
    row.classList.add("at");
    const link = one("a.open", row) || one("a", row);
    (link || row).focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }
  function step(by) {
    const rows = all("[data-row]").filter(shown);
    const at = rows.indexOf(one(".at"));
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
    if (next) mark(next);
  }
  function failure(by) {
    const found = all("[data-bad], .l.err").filter(shown);
    if (!found.length) { tell("No failure on this page"); return; }
    const at = found.indexOf(bad);
    bad = found[at < 0 ? (by > 0 ? 0 : found.length - 1) : (at + by + found.length) % found.length];
    if (bad.hasAttribute("data-row")) mark(bad);
    else if (bad.id) { history.replaceState(null, "", `#${bad.id}`); light(); }
    else bad.focus({ preventScroll: true });
    reach(bad);
  }
  function jump() {
    const field = all("[data-jump]").filter(shown).pop();
    if (field) { field.focus(); field.select?.(); field.scrollIntoView({ block: "nearest" }); }
  }
  const KEYS = {
    "/": jump, f: () => failure(1), F: () => failure(-1), j: () => step(1), k: () => step(-1),
    "?": () => one("#keys")?.showModal(),
    Enter: () => { const row = one("[data-bad]:focus") || one(".at"); (row && (one("a.open", row) || one("a", row)))?.click(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
    const target = event.target;
    if (target.closest("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (event.key === "Enter" && target.closest("a, button, summary")) return;
    const act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  /* Copying. */
  function tell(text) {
    const toast = document.createElement("div");
    toast.className = "toast";
    toast.setAttribute("role", "status");
    toast.textContent = text;
    document.body.append(toast);
    setTimeout(() => toast.remove(), 2000);
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) KEYS["?"]();
    const button = event.target.closest("[data-copy]");
    if (button) navigator.clipboard.writeText(button.dataset.copy).then(() => tell("Copied"), () => tell("The browser did not let it be copied"));
  });
  function enhance() {
    for (const button of all("[data-keys]")) button.hidden = false;
    if (navigator.clipboard) for (const button of all("[data-copy][hidden]")) button.hidden = false;
  }

  /* Lines of a log: #L10-L20 lights a range; a click with Shift on a number makes one. */
  const range = () => /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
  function light(go) {
    for (const line of all(".l.lit")) line.classList.remove("lit");
    const found = range();
    if (!found) return;
    const ends = [Number(found[1]), Number(found[2] || found[1])].sort((a, b) => a - b);
    const first = document.getElementById(`L${ends[0]}`);
    for (let at = ends[0]; at <= Math.min(ends[1], ends[0] + 5000); at++) document.getElementById(`L${at}`)?.classList.add("lit");
    const folded = first?.closest("details");
    if (folded) folded.open = true;
    if (go && first) first.scrollIntoView({ block: "center" });
  }
  document.addEventListener("click", (event) => {
    const number = event.target.closest(".log .l > a");
    const found = range();
    if (!number || !event.shiftKey || !found) return;
    event.preventDefault();
    history.replaceState(null, "", `#L${found[1]}-${number.closest(".l").id}`);
    light();
  });
  addEventListener("hashchange", () => light(true));
  light(true);

  /* A log that grows. Scrolling up stops following, the button or the end starts it again. */
  function follow(log) {
    const button = one("[data-follow]");
    const end = () => document.documentElement.scrollHeight - innerHeight - scrollY < 40;
    let following = !range() && button?.getAttribute("aria-pressed") !== "false", last = scrollY;
    const set = (on) => { following = on; button?.setAttribute("aria-pressed", String(on)); if (on) scrollTo(0, document.documentElement.scrollHeight); };
    const address = new URL(log.dataset.log, location.href);
    if (log.dataset.offset) address.searchParams.set("offset", log.dataset.offset);
    let source = null;
    const lines = (event) => {
      if (event.lastEventId) address.searchParams.set("offset", event.lastEventId);
      const news = JSON.parse(event.data);
      if (news.phase) log.insertAdjacentHTML("beforeend", news.phase);
      const box = all("[data-log-rows]", log).pop() || log;
      box.insertAdjacentHTML("beforeend", news.html);
      log.dispatchEvent(new Event("grown"));
      if (following) scrollTo(0, document.documentElement.scrollHeight);
    };
    const ended = () => { source.close(); log.removeAttribute("data-running"); refresh(); if (button) button.hidden = true; };
    const open = () => {
      source?.close();
      if (document.hidden || !log.hasAttribute("data-running")) return;
      source = new EventSource(address);
      source.addEventListener("lines", lines);
      source.addEventListener("ended", ended);
    };
    document.addEventListener("visibilitychange", open);
    open();
    addEventListener("scroll", () => {
      if (scrollY < last - 4 && !end()) { if (following) set(false); } else if (end() && !following) set(true);
      last = scrollY;
    }, { passive: true });
    if (button) { button.hidden = false; button.addEventListener("click", () => set(!following)); }
    set(following);
  }
  for (const log of all("[data-log][data-running]")) follow(log);

  enhance();
  tick();
})();

/* ===== Logs: lines that are not on this page, logs that grow long (pages-b) ===== */
(() => {
  const log = document.querySelector(".log[data-first]");
  if (!log) return;
  const MOST = 20000, ATONCE = 2000;
  function seek() {
    const found = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
    const wanted = found && (found[2] ? `${found[1]}-${found[2]}` : found[1]);
    if (!found || document.getElementById(`L${found[1]}`)) return;
    const address = new URL(location.href);
    if (address.searchParams.get("line") === wanted) return;
    address.search = `?line=${wanted}`;
    location.replace(address);
  }
  addEventListener("hashchange", seek);
  seek();
  const lines = log.getElementsByClassName("l"), button = document.querySelector("[data-follow]");
  const name = () => { if (button) button.textContent = button.getAttribute("aria-pressed") === "true" ? "Following ▾" : "Follow the end ▾"; };
  if (button) new MutationObserver(name).observe(button, { attributeFilter: ["aria-pressed"] });
  name();
  log.addEventListener("grown", () => {
    document.querySelector("[data-empty]")?.remove();
    const last = lines[lines.length - 1]?.id.slice(1);
    for (const count of document.querySelectorAll(".windows .num")) count.textContent = `Lines ${lines[0].id.slice(1)} to ${last}`;
    if (lines.length > MOST + ATONCE && button?.getAttribute("aria-pressed") === "true") [...lines].slice(0, ATONCE).forEach((line) => line.remove());
  });
})();
