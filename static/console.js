// The console: real lines in the page, at most KEEP of them while it follows the end. Older ones come
// from the server, and so does everything around a line that somebody wants to see.

import { Ink, kept, paint, penOf } from "./ansi.js";
import { remembered } from "./memory.js";

const BLOCK = 200; // lines a block: the browser skips the layout of blocks out of sight
const KEEP = 5000;
const KEEP_WHILE_READING = 20000;
const TRACEBACK = "Traceback (most recent call last)";
// A line of the page's own between the lines of the code.
const MARKS = {
  run_queued: (meta) => meta.number > 1 && `Run ${meta.number}`,
  run_recovered: () => "Interrupted: what was under way begins again",
};
export const BORDERS = new Set(["run_queued", "run_recovered", "step_started", "code_execution"]);

export const didWell = (meta) => meta.ended_by === "exit" && meta.exit_code === 0;
const two = (number) => String(number).padStart(2, "0");
const duration = (seconds) =>
  seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)}:${two(Math.floor(seconds % 60))}`;
const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);

/**
 * Attached, it shows the end and adds what arrives. Detached (somebody reads older lines, and more than
 * KEEP_WHILE_READING would be held) it only counts: the end is asked of the server when it is wanted.
 */
export class Console {
  #url;
  #hasEarlier = "";
  #log;
  #lines;
  #template;
  #count = 0;
  #missed = 0;
  #open = {}; // stream -> its line that has no newline yet
  #inks = {};
  #group = null; // where the next line goes; null: into a new one
  #border = { key: 0, step: "", title: "", run: 1 };
  #following = true;
  #attached = true;
  #held = null; // events that arrive while the end is being fetched
  #until = 0; // what the end that was fetched has already; the stream may be behind it
  #folded = remembered("folded", []);
  #onChange;

  constructor({ log, lines, template, url, onChange }) {
    this.#url = url;
    this.#log = log;
    this.#lines = lines;
    this.#template = template;
    this.#onChange = onChange;
    this.#take(lines.firstElementChild);
    log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    lines.addEventListener("toggle", (event) => this.#remember(event.target), true);
    // hidden on a phone until its tab is chosen: only then has it an end to go to
    new ResizeObserver(() => this.#following && this.#toEnd()).observe(log);
    this.#toEnd();
  }

  get state() {
    return {
      following: this.#following,
      attached: this.#attached,
      missed: this.#missed,
      isEmpty: !this.#count,
      hasEarlier: Boolean(this.#hasEarlier),
    };
  }

  // -- what arrives ---------------------------------------------------------------------------------
  /** One event of the console, in order. */
  add(event) {
    if (event.seq <= this.#until) return;
    if (this.#held) this.#held.push(event);
    else if (event.event_type !== "output") this.#cross(event);
    else if (this.#attached) this.#append(event);
    else this.#missed += event.meta.text.split("\n").length - 1;
  }

  /** After a batch: keep to the bound and, when following, to the end. */
  settle() {
    if (this.#following) {
      while (this.#count > KEEP) this.#dropFirst();
      this.#toEnd();
    } else if (this.#count > KEEP_WHILE_READING) this.#attached = false;
    this.#changed();
  }

  #append({ seq, timestamp, meta: { stream, line, text, cont } }) {
    const pieces = text.split("\n");
    const ended = pieces.at(-1) === "";
    if (ended) pieces.pop();
    const ink = (this.#inks[stream] ??= new Ink());
    pieces.forEach((piece, index) => {
      const goesOn = index === 0 && cont && this.#open[stream];
      const open = goesOn || this.#begin(line + index, stream, seq, timestamp, ink.pen);
      Object.assign(open, kept(open.raw + piece, open.pen));
      paint(open.line, open.raw, open.pen);
      if (stream === "stderr" && open.raw.startsWith(TRACEBACK)) open.line.classList.add("bad");
      ink.write(piece);
      this.#open[stream] = open;
    });
    if (ended) delete this.#open[stream];
  }

  #begin(number, stream, seq, timestamp, pen) {
    const line = document.createElement("div");
    line.className = `ln ${stream}`;
    line.dataset.n = number;
    line.dataset.t = `${timestamp.slice(11, 19)}Z`;
    const block = this.#block(seq);
    block.append(line);
    block.dataset.last = seq;
    this.#count += 1;
    return { line, raw: "", pen };
  }

  #block(seq) {
    this.#group ??= this.#newGroup();
    const last = this.#group.lastElementChild;
    if (last.className === "block" && last.childElementCount < BLOCK) return last;
    const block = document.createElement("div");
    block.className = "block";
    block.dataset.seq = seq;
    this.#group.append(block);
    return block;
  }

  #newGroup() {
    const { key, step, title, run } = this.#border;
    const group = this.#template.content.firstElementChild.cloneNode(true);
    Object.assign(group.dataset, { key, run });
    group.querySelector("b").textContent = step;
    group.querySelector(".what").textContent = title || "Output";
    group.open = !this.#folded.value.includes(String(key));
    this.#lines.append(group);
    return group;
  }

  // -- borders --------------------------------------------------------------------------------------
  #cross({ event_type: type, seq, meta }) {
    if (type === "code_execution" && this.#group) this.#end(this.#group, meta);
    if (type === "run_queued") this.#border = { ...this.#border, run: meta.number, step: "", title: "" };
    if (type === "step_started") this.#border = { ...this.#border, step: `Step ${meta.index}`, title: meta.title };
    this.#border.key = seq;
    this.#group = null;
    const mark = MARKS[type]?.(meta);
    if (!mark) return;
    this.#open = {};
    this.#inks = {};
    if (this.#attached) this.#lines.append(Object.assign(document.createElement("div"), { className: "mark", textContent: mark }));
  }

  /** Its code ended: what it was, how long it took, and how it went. */
  #end(group, meta) {
    const fine = didWell(meta);
    group.classList.replace("run", fine ? "ok" : "bad");
    group.querySelector(".what").textContent = nameOf(meta.path);
    group.querySelector(".took").textContent = duration(meta.duration_s);
    if (!fine) group.open = true;
  }

  // -- folding --------------------------------------------------------------------------------------
  #remember({ dataset: { key }, open }) {
    const others = this.#folded.value.filter((one) => one !== key);
    this.#folded.value = open ? others : [...others, key];
  }

  /** Fold or unfold all but what failed and what is being printed. */
  foldAll(folded) {
    for (const group of this.#lines.querySelectorAll(".group:not(.bad)")) group.open = !folded || group === this.#group;
    if (this.#following) this.#toEnd();
  }

  // -- the place --------------------------------------------------------------------------------------
  /** Follow the end; what came meanwhile is fetched when it is not here. False: nobody answered. */
  async follow() {
    if (!this.#attached && !(await this.#attach())) return false;
    this.#following = true;
    this.settle();
    return true;
  }

  stay() {
    this.#following = false;
    this.#changed();
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    if (!clientHeight || this.#held) return;
    const following = this.#attached && scrollHeight - scrollTop - clientHeight < 40;
    if (following === this.#following) return;
    this.#following = following;
    this.#changed();
  }

  /** Bring a line of a run into sight, from the server if it is not here. False: there is none. */
  async show(run, number) {
    const here = () => this.#lines.querySelector(`[data-run="${run}"] .ln[data-n="${number}"]`);
    if (!here()) {
      const piece = await this.#fetch(`line=${run}:${number}`);
      if (!piece || !piece.querySelector(`[data-run="${run}"] .ln[data-n="${number}"]`)) return false;
      this.#detach();
      this.#take(piece);
    }
    this.#following = false;
    this.mark(here());
    here().scrollIntoView({ block: "center" });
    this.#changed();
    return true;
  }

  mark(line) {
    this.#lines.querySelector(".here")?.classList.remove("here");
    line.closest(".group").open = true;
    line.classList.add("here");
  }

  // -- pieces from the server -------------------------------------------------------------------------
  /** The lines before the first one shown; the scroll place stays. False: nobody answered. */
  async earlier() {
    const first = this.#lines.querySelector(".ln");
    const piece = first && (await this.#fetch(`before=${first.parentElement.dataset.seq}:${first.dataset.n}`));
    if (!piece || !first.isConnected) return false;
    const top = first.getBoundingClientRect().top;
    this.#hasEarlier = piece.dataset.earlier;
    this.#join(piece.lastElementChild, this.#lines.firstElementChild, "prepend");
    this.#lines.prepend(...piece.children);
    this.#recount();
    if (this.#count > KEEP_WHILE_READING) {
      this.#detach();
      while (this.#count > KEEP_WHILE_READING) this.#dropLast();
    }
    this.#following = false;
    this.#log.scrollTop += first.getBoundingClientRect().top - top;
    this.#changed();
    return true;
  }

  /** Detached: the lines after the last one shown. False: nobody answered. */
  async later() {
    const last = [...this.#lines.querySelectorAll(".ln")].at(-1);
    const piece = last && (await this.#fetch(`after=${last.parentElement.dataset.last}:${last.dataset.n}`));
    if (!piece) return false;
    if (!piece.querySelector(".ln")) return this.follow();
    this.#join(piece.firstElementChild, this.#lines.lastElementChild, "append");
    this.#lines.append(...piece.children);
    this.#recount();
    while (this.#count > KEEP_WHILE_READING) this.#dropFirst();
    this.#changed();
    return true;
  }

  /** A group that goes over the border of two pieces becomes one. */
  #join(from, into, how) {
    if (!from?.dataset.key || from.dataset.key !== into?.dataset.key) return;
    const blocks = from.querySelectorAll(".block");
    if (how === "append") into.append(...blocks);
    else into.firstElementChild.after(...blocks);
    from.remove();
  }

  async #fetch(query) {
    const answer = await fetch(`${this.#url}?${query}`).catch(() => null);
    if (!answer?.ok || answer.redirected) return null;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text(); // our own template: text of code is escaped there
    return holder.content.firstElementChild;
  }

  async #attach() {
    if (this.#held) return false; // asked already
    this.#held = [];
    const piece = await this.#fetch("");
    const held = this.#held;
    this.#held = null;
    if (piece) this.#take(piece);
    this.#attached = Boolean(piece);
    for (const event of held) this.add(event);
    return this.#attached;
  }

  #detach() {
    this.#attached = false;
    this.#open = {};
    this.#group = null;
  }

  /** Show this piece and nothing else. */
  #take(piece) {
    const { earlier, stdout, stderr, key, step, title, run } = piece.dataset;
    this.#hasEarlier = earlier;
    this.#missed = 0;
    this.#lines.replaceChildren(...piece.children);
    this.#recount();
    if (key === undefined) return; // not the end
    this.#until = Number(piece.dataset.until);
    this.#border = { key: Number(key), step, title, run: Number(run) };
    this.#inks = { stdout: new Ink(penOf(stdout)), stderr: new Ink(penOf(stderr)) };
    const last = this.#lines.lastElementChild;
    this.#group = last?.dataset.key === key ? last : null;
    this.#open = {};
    for (const line of this.#lines.querySelectorAll(".ln[data-open]")) {
      const stream = line.classList.contains("stderr") ? "stderr" : "stdout";
      this.#open[stream] = { line, raw: line.dataset.open, pen: penOf(line.dataset.pen) };
    }
  }

  #recount() {
    this.#count = this.#lines.querySelectorAll(".ln").length;
    for (const group of this.#lines.querySelectorAll(".group:not(.bad)"))
      if (this.#folded.value.includes(group.dataset.key)) group.open = false;
  }

  #dropFirst() {
    const block = this.#lines.querySelector(".block");
    while (this.#lines.firstElementChild.className === "mark") this.#lines.firstElementChild.remove();
    this.#hasEarlier = "yes";
    this.#drop(block);
  }

  #dropLast() {
    this.#drop([...this.#lines.querySelectorAll(".block")].at(-1));
    while (this.#lines.lastElementChild.className === "mark") this.#lines.lastElementChild.remove();
  }

  #drop(block) {
    const group = block.parentElement;
    this.#count -= block.childElementCount;
    block.remove();
    if (group.childElementCount === 1) group.remove();
  }

  #changed() {
    this.#onChange(this.state);
  }
}
