// The session page: the one stream, turned into console lines, entries and fragments to fetch anew.

import { BORDERS, Console } from "./console.js";
import { Drafts } from "./drafts.js";
import { remembered } from "./memory.js";
import { Search, placeOf } from "./search.js";
import { Stream } from "./stream.js";
import { Talk } from "./talk.js";

const at = (id) => document.getElementById(id);
const page = at("main").dataset;
const connection = at("connection");

const WORDS = {
  connecting: "Connecting",
  "catching-up": "Catching up",
  live: "Live",
  reconnecting: "Reconnecting",
  offline: "Offline",
  "sign-in": "Sign in again",
  gone: "This session is gone",
  outdated: "Reload the page",
};
// What an event changes beside the conversation and the status.
const CHANGES = {
  files_updated: ["plots", "files"],
  run_completed: ["plots", "files"],
};
// After these, what an agent had begun to say will not be ended.
const ENDS_OF_TALK = new Set(
  "queued started recovered postponed paused cancelled failed completed".split(" ").map((word) => `run_${word}`),
);
const REFRESH_MS = 150;
const REFRESH_AGAIN_MS = 1000; // a run that tells much costs one request a second
const SAY_MS = 10000;
let unsaid = 0; // lines that a screen reader was not told of

// -- fragments ---------------------------------------------------------------------------------
const waiting = new Set();
const refreshed = new Map();

/** Fetch a fragment anew soon; many events at once cost one request. */
function refresh(id) {
  if (waiting.has(id)) return;
  waiting.add(id);
  const since = performance.now() - (refreshed.get(id) ?? -REFRESH_AGAIN_MS);
  setTimeout(() => {
    waiting.delete(id);
    refreshed.set(id, performance.now());
    at(id).dispatchEvent(new Event("refresh"));
  }, Math.max(REFRESH_MS, REFRESH_AGAIN_MS - since));
}

// -- conversation ------------------------------------------------------------------------------
const talk = new Talk(at("thread"), at("entries"), page.talkUrl);
const drafts = new Drafts(at("drafts"), at("draft"));

function say(events) {
  const atEnd = talk.isAtEnd;
  for (const event of events) {
    if (event.event_type === "agent_delta") drafts.add(event);
    else if (event.event_type === "agent_message") drafts.close(event.meta.agent);
    else if (ENDS_OF_TALK.has(event.event_type)) drafts.clear();
    if (event.slot === "talk") talk.add(event.html);
  }
  if (atEnd) talk.settle();
}

// -- console -----------------------------------------------------------------------------------
const lines = new Console({
  log: at("log"),
  lines: at("lines"),
  template: at("group"),
  url: page.consoleUrl,
  onChange: showConsole,
});

function showConsole({ following, attached, missed, isEmpty, hasEarlier }) {
  at("follow").setAttribute("aria-pressed", following);
  at("earlier").hidden = !hasEarlier;
  at("later").hidden = attached;
  at("more").hidden = attached;
  at("more").textContent = missed ? `${missed.toLocaleString("en")} new lines` : "Go to the end";
  at("logempty").hidden = !isEmpty;
}

function print(event) {
  lines.add(event);
  if (event.event_type !== "output") return;
  const { line, text } = event.meta;
  const ended = text.split("\n").length - 1;
  unsaid += ended;
  at("console-count").textContent = (line + Math.max(ended - text.endsWith("\n"), 0)).toLocaleString("en");
}

at("follow").addEventListener("click", () => (lines.state.following ? lines.stay() : lines.follow()));
at("more").addEventListener("click", () => lines.follow().then((done) => done || tellNoAnswer(at("more"))));
onPress("earlier", () => lines.earlier());
onPress("later", () => lines.later());

/** Ask the server for lines, once at a time; the button says when nobody answered. */
function onPress(id, work) {
  const words = at(id).textContent;
  at(id).addEventListener("click", async () => {
    if (at(id).ariaBusy) return;
    at(id).ariaBusy = "true";
    at(id).textContent = words;
    if (!(await work())) tellNoAnswer(at(id));
    at(id).ariaBusy = null;
  });
}

function tellNoAnswer(button) {
  button.textContent = "The server did not answer. Try again";
}

/** A button that stays pressed, over a reload too. */
function toggle(id, otherwise, show) {
  const kept = remembered(id, otherwise);
  const button = at(id);
  const apply = () => {
    button.setAttribute("aria-pressed", kept.value);
    show(kept.value);
  };
  button.addEventListener("click", () => {
    kept.value = !kept.value;
    apply();
  });
  apply();
}
toggle("show-times", false, (shown) => at("log").classList.toggle("timed", shown));
toggle("wrap-lines", true, (wrapped) => at("log").classList.toggle("unwrapped", !wrapped));
at("fold-groups").addEventListener("click", () => {
  const folded = at("fold-groups").getAttribute("aria-pressed") !== "true";
  at("fold-groups").setAttribute("aria-pressed", folded);
  lines.foldAll(folded);
});

at("copy-lines").addEventListener("click", async () => {
  const selection = getSelection();
  const chosen = at("log").contains(selection.anchorNode) ? String(selection) : "";
  const text = chosen || [...at("lines").querySelectorAll(".ln")].map((line) => line.textContent).join("\n");
  await copy(text);
  at("said-politely").textContent = chosen ? "Copied what is selected" : "Copied all lines shown";
});

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea"); // over plain http browsers offer no other way
  field.value = text;
  at("copy-lines").after(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  return at("copy-lines").focus();
}

// -- places ------------------------------------------------------------------------------------
async function show(run, line) {
  openView("view-work", "tab-console");
  if (!(await lines.show(run, line))) at("said-politely").textContent = "There is no such line.";
}
new Search(at("search-console"), at("found"), show);

// On a phone one part of the page fills the screen at a time.
function openView(...tabs) {
  for (const id of tabs) if (at(id).getAttribute("aria-selected") !== "true") at(id).click();
}

async function openHash() {
  const place = placeOf(location.hash);
  const event = location.hash.match(/^#e(\d+)$/);
  if (place) await show(place.run, place.line);
  if (!event) return;
  openView("view-talk");
  if (!(await talk.show(Number(event[1])))) at("said-politely").textContent = "There is no such entry.";
}
addEventListener("hashchange", openHash);

// A click on a line's number names the line in the address; lines themselves are no tab stops.
const NUMBER_WIDTH = 52;
at("lines").addEventListener("click", (event) => {
  const line = event.target.closest(".ln");
  if (!line || event.clientX - line.getBoundingClientRect().left > NUMBER_WIDTH) return;
  const run = line.closest(".group").dataset.run;
  history.replaceState(null, "", `#${run === "1" ? "" : `R${run}`}L${line.dataset.n}`);
  lines.mark(line);
});

let failure = -1;
at("failures").addEventListener("click", (event) => {
  const anchors = event.target.closest("[data-anchors]")?.dataset.anchors.trim().split(" ");
  if (!anchors) return;
  failure = (failure + 1) % anchors.length;
  const { run, line } = placeOf(anchors[failure]) ?? {};
  if (line) show(run, line);
});

// -- stream ------------------------------------------------------------------------------------
function apply(events) {
  for (const event of events) {
    const type = event.event_type;
    if (type === "output" || BORDERS.has(type)) print(event);
    if (type === "output" || type === "agent_delta") continue;
    (CHANGES[type] ?? []).forEach(refresh);
    if (type !== "files_updated") refresh("status");
    if (type === "run_failed") at("said-at-once").textContent = "The run failed.";
  }
  say(events);
  lines.settle();
}

function showConnection(state) {
  document.documentElement.dataset.conn = state;
  connection.querySelector(".words").textContent = WORDS[state];
  connection.querySelector(".retry").hidden = !["reconnecting", "offline"].includes(state);
  connection.querySelector(".enter").hidden = state !== "sign-in";
  if (state === "live") ["status", "plots", "files"].forEach(refresh); // one may have failed while we were away
}

/** The page is of another build, or of a log that is gone; nothing that was typed is. */
function offerReload(words) {
  at("notice").hidden = false;
  at("notice").firstElementChild.textContent = words;
}
const typed = remembered("typed", "");
const field = () => at("composer-task");
if (typed.value && !field().value) field().value = typed.value;
at("composer").addEventListener("input", () => (typed.value = field().value));
at("composer").addEventListener("htmx:after:swap", () => (typed.value = field().value));
at("notice").querySelector("button").addEventListener("click", () => location.reload());

const stream = new Stream({
  url: `${location.protocol.replace("http", "ws")}//${location.host}/ws/`,
  session: page.session,
  after: Number(page.after),
  epoch: page.epoch,
  apply,
  onState: showConnection,
  onBuild: () => offerReload("The server has a newer version of this page. What you typed stays when you reload."),
  onReset: () => location.reload(),
});
connection.querySelector(".retry").addEventListener("click", () => stream.retry());

// -- clocks ------------------------------------------------------------------------------------
const two = (number) => String(number).padStart(2, "0");

/** 75 → "1:15", 3675 → "1:01:15"; the same as sessions_app/rendering/entries.py writes. */
function clock(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

// The page's own clock only measures what passed since the server said how long it had been.
function tick() {
  const elapsed = document.querySelector("[data-elapsed]");
  if (elapsed) {
    if (elapsed.said !== elapsed.dataset.elapsed) {
      elapsed.said = elapsed.dataset.elapsed;
      elapsed.since = performance.now();
    }
    const passed = (performance.now() - elapsed.since) / 1000;
    elapsed.textContent = clock(Math.floor(Number(elapsed.said) + passed));
  }
  if (document.documentElement.dataset.conn === "reconnecting") {
    const behind = Math.round(stream.silentFor / 1000);
    connection.querySelector(".words").textContent = `Reconnecting, ${behind} s behind`;
  }
}
setInterval(tick, 1000);
tick();

setInterval(() => {
  if (unsaid) at("said-politely").textContent = `${unsaid.toLocaleString("en")} new lines`;
  unsaid = 0;
}, SAY_MS);

showConsole(lines.state);
openHash();
