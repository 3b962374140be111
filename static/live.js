// Parts of a page that htmx fetches: asked for anew while somebody looks, and what is said when that fails.
//
// `data-live="3"` with `hx-trigger="refresh"` is asked every three seconds, not in a hidden tab, and at
// once when the tab is shown again.

const asked = new WeakMap();
const failed = new Set(); // parts that could not be fetched; each takes itself out when it comes
let unanswered = false; // a command: whether it was done nobody knows
const notice = document.getElementById("failure");
const SENTENCES = {
  403: "The server refused that: you signed in or out since this page was opened. Nothing was done; reload the page.",
  404: "What this page shows is gone, or is no longer yours to see.",
  413: "That is larger than the server takes. Nothing was kept.",
  429: "That was too often. Wait a minute.",
};

// -- asked for anew ----------------------------------------------------------------------------
function askAll({ now }) {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-live]")) {
    const last = asked.get(part) ?? performance.now();
    if (!asked.has(part)) asked.set(part, last); // it came with the page: it is fresh
    if (now || performance.now() - last >= Number(part.dataset.live) * 1000) ask(part);
  }
}

function ask(part) {
  asked.set(part, performance.now());
  part.dispatchEvent(new Event("refresh"));
}

setInterval(askAll, 1000, { now: false });
document.addEventListener("visibilitychange", () => askAll({ now: true }));

// -- times that pass ---------------------------------------------------------------------------
const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

function ago(seconds) {
  const unit = UNITS.find(([size]) => seconds >= size);
  return unit ? `${Math.floor(seconds / unit[0])} ${unit[1]} ago` : "just now";
}

function clock(seconds) {
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const padded = [minutes, rest].map((part) => String(part).padStart(2, "0"));
  return hours ? `${hours}:${padded.join(":")}` : `${minutes}:${padded[1]}`;
}

/** `data-ago` and `data-runs` are ages in seconds when the server wrote them: no clock of ours is asked. */
function showTimes() {
  for (const [name, write] of [["ago", ago], ["runs", clock]]) {
    for (const time of document.querySelectorAll(`time[data-${name}]`)) {
      const said = time.dataset[name];
      if (time.said !== said) Object.assign(time, { said, since: performance.now() });
      const text = write(Math.floor(Number(said) + (performance.now() - time.since) / 1000));
      if (time.textContent !== text) time.textContent = text;
    }
  }
}

setInterval(showTimes, 1000);

// -- what could not be fetched -----------------------------------------------------------------
function show(sentence, { again = true } = {}) {
  notice.querySelector("span").textContent = sentence;
  notice.querySelector("[data-retry]").hidden = !again;
  notice.hidden = false;
}

function hide() {
  failed.clear();
  unanswered = false;
  notice.hidden = true;
}

const showParts = () => show("A part of this page could not be loaded.");

function fail(ctx) {
  const { sourceElement: source, request } = ctx;
  if (request.method !== "GET") {
    unanswered = true; // its own button repeats it: to load the page anew would not, and may find no server
    show("The server did not answer that. Look whether it was done before you repeat it.", { again: false });
  } else {
    failed.add(source);
    if (!unanswered) showParts();
  }
}

function come({ sourceElement: source, request }) {
  const known = failed.size > 0;
  for (const part of failed) if (part === source || !part.isConnected) failed.delete(part);
  if (request.method !== "GET" && unanswered) {
    unanswered = false;
    if (failed.size) showParts();
    else hide();
  } else if (known && !failed.size && !unanswered) hide();
}

// A whole page in answer to a part of one is an error page: it is told, not put into that part.
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  const { status } = ctx.response;
  if (status < 400) come(ctx);
  else if (status < 500 && /^\s*<!doctype/i.test(ctx.text)) {
    event.preventDefault();
    show(SENTENCES[status] ?? `The server answered with ${status}.`);
  }
});
document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => ctx.response.status >= 500 && fail(ctx));
document.addEventListener("htmx:error", ({ detail: { ctx } }) => ctx?.request && fail(ctx));

notice.querySelector("[data-retry]").addEventListener("click", () => {
  const parts = [...failed].filter((part) => part.isConnected);
  hide();
  // what answers to no "refresh" is part of something larger: then the page as a whole
  if (!parts.length || !parts.every((part) => part.matches("[hx-trigger*=refresh]"))) location.reload();
  else parts.forEach(ask);
});
notice.querySelector("[data-close]").addEventListener("click", hide);
