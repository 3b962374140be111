// The session page: the one stream, turned into console lines and fragments to fetch anew.

import { Console } from "./console.js";
import { Drafts } from "./drafts.js";
import { Stream } from "./stream.js";

const page = document.getElementById("main").dataset;
const thread = document.getElementById("thread");
const entries = document.getElementById("entries");
const log = document.getElementById("log");
const lineCount = document.getElementById("console-count");
const follow = document.getElementById("follow");
const connection = document.getElementById("connection");

const WORDS = {
  connecting: "Connecting",
  "catching-up": "Catching up",
  live: "Live",
  reconnecting: "Reconnecting",
  offline: "Offline",
  "sign-in": "Sign in again",
  gone: "This session is gone",
};
// What an event changes beside the conversation and the status.
const CHANGES = {
  files_updated: ["plots", "files"],
  run_completed: ["plots", "files"],
};
const MARKS = {
  run_queued: (data) => data.number > 1 && `Run ${data.number}`,
  run_recovered: () => "Interrupted: what was under way begins again",
};
// After these, what an agent had begun to say will not be ended.
const ENDS_OF_TALK = new Set(
  "queued started recovered postponed paused cancelled failed completed".split(" ").map((word) => `run_${word}`),
);
const NO_TALK = new Set(["files_updated", "cost_update"]);
const PAGE_OF_TALK = 200; // as many entries the server answers at once

// -- fragments ---------------------------------------------------------------------------------
const waiting = new Map();

/** Fetch a fragment anew soon; many events at once cost one request. */
function refresh(id) {
  if (waiting.has(id)) return;
  const send = () => {
    waiting.delete(id);
    document.getElementById(id).dispatchEvent(new Event("refresh"));
  };
  waiting.set(id, setTimeout(send, 150));
}

let fetching = false;
let more = false;

/** Append the entries after the last one shown, one request at a time: each comes once, in order. */
async function extendTalk() {
  more = true;
  if (fetching) return;
  fetching = true;
  try {
    while (more) {
      more = false;
      more = (await fetchTalk()) >= PAGE_OF_TALK || more;
    }
  } finally {
    fetching = false; // after a failure the next event, or the next connection, asks again
  }
}

async function fetchTalk() {
  const atEnd = isAtEnd();
  const before = entries.childElementCount;
  const after = entries.lastElementChild?.dataset.seq ?? 0;
  const url = `${page.talkUrl}?after=${after}`;
  await htmx.ajax("GET", url, { source: entries, target: entries, swap: "beforeend" });
  drafts.settle();
  if (atEnd) toEnd();
  return entries.childElementCount - before;
}

const isAtEnd = () => thread.scrollHeight - thread.scrollTop - thread.clientHeight < 80;
const toEnd = () => (thread.scrollTop = thread.scrollHeight);

// -- what is being said --------------------------------------------------------------------------
const drafts = new Drafts(
  document.getElementById("drafts"),
  document.getElementById("draft"),
  entries,
  Number(page.after),
);

function talk(events) {
  const atEnd = isAtEnd();
  for (const event of events) {
    if (event.event_type === "agent_delta") drafts.add(event);
    else if (event.event_type === "agent_message") drafts.close(event.data.agent);
    else if (ENDS_OF_TALK.has(event.event_type)) drafts.clear();
  }
  if (atEnd) toEnd();
}

// -- console -----------------------------------------------------------------------------------
const output = new Console(log, (following) => follow.setAttribute("aria-pressed", following));

follow.addEventListener("click", () => (output.following ? output.stay() : output.toEnd()));

// -- stream ------------------------------------------------------------------------------------
function apply(events) {
  for (const event of events) {
    if (event.event_type === "output") {
      lineCount.textContent = output.append(event.data).toLocaleString("en");
      continue;
    }
    if (event.event_type === "agent_delta") continue;
    const mark = MARKS[event.event_type]?.(event.data);
    if (mark) output.mark(mark);
    (CHANGES[event.event_type] ?? []).forEach(refresh);
    if (event.event_type !== "files_updated") refresh("status");
    if (!NO_TALK.has(event.event_type)) extendTalk();
  }
  talk(events);
  output.settle();
}

function showConnection(state) {
  document.documentElement.dataset.conn = state;
  connection.querySelector(".words").textContent = WORDS[state];
  connection.querySelector(".retry").hidden = !["reconnecting", "offline"].includes(state);
  connection.querySelector(".enter").hidden = state !== "sign-in";
  if (state !== "live") return;
  ["status", "plots", "files"].forEach(refresh); // a fragment may have failed while we were away
  extendTalk();
}

const stream = new Stream({
  url: `${location.protocol.replace("http", "ws")}//${location.host}/ws/`,
  session: page.session,
  after: Number(page.after),
  epoch: page.epoch,
  apply,
  onState: showConnection,
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
toEnd();
