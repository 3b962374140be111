// The console: lines as text nodes, at most KEEP of them, following the end until the reader scrolls up.

const BLOCK = 200; // lines a block: the browser skips the layout of blocks out of sight
const KEEP = 5000;
const KEEP_WHILE_READING = 20000; // nothing above the reader's eyes is removed before this
const LONGEST = 4000; // characters shown of one line; the whole log has all of it
// They turn what follows them around: shown as sessions_app/console.py shows them.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;
export const unmasked = (text) =>
  text.replace(TURNING, (found) => `[U+${found.codePointAt(0).toString(16).toUpperCase()}]`);
const ESCAPES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

// A progress bar overwrites its line with \r: its last state is what a terminal would show.
const folded = (text) => {
  const line = text.replace(/\r+$/, "");
  return line.slice(line.lastIndexOf("\r") + 1);
};
const shown = (raw) => {
  const text = unmasked(folded(raw).replace(ESCAPES, ""));
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} … (the whole log has the rest)` : text;
};

// Only what can still be shown is kept: a line of 10 MB comes in hundreds of pieces.
const kept = (raw) => folded(raw).slice(0, LONGEST + 1) + (raw.endsWith("\r") ? "\r" : "");

export class Console {
  #log;
  #lines = 0;
  #open = {}; // stream -> its line that has no newline yet
  #following = true;
  #onFollow;

  constructor(log, onFollow) {
    this.#log = log;
    this.#onFollow = onFollow;
    this.#lines = log.querySelectorAll(".ln").length;
    for (const line of log.querySelectorAll(".ln[data-open]")) {
      this.#open[line.dataset.open] = { line, raw: line.textContent };
    }
    log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // hidden on a phone until its tab is chosen: only then has it an end to go to
    new ResizeObserver(() => this.#following && this.toEnd()).observe(log);
    this.toEnd();
  }

  get following() {
    return this.#following;
  }

  /** Show one `output` event; returns the number of its last line. */
  append({ stream, line, text, cont }) {
    const pieces = text.split("\n");
    const ended = pieces.at(-1) === "";
    if (ended) pieces.pop();
    pieces.forEach((piece, index) => {
      const open = index === 0 && cont ? this.#open[stream] : null;
      if (open) this.#extend(open, piece);
      else this.#open[stream] = this.#add(line + index, piece, stream);
    });
    if (ended) delete this.#open[stream];
    return line + Math.max(pieces.length, 1) - 1;
  }

  /** A line of the page's own between the lines of the code. */
  mark(text) {
    this.#open = {};
    const mark = document.createElement("div");
    mark.className = "mark";
    mark.textContent = text;
    this.#block().append(mark);
  }

  /** After a batch: keep to the bound and, when following, to the end. */
  settle() {
    const bound = this.#following ? KEEP : KEEP_WHILE_READING;
    while (this.#lines > bound) {
      const first = this.#log.firstElementChild;
      this.#lines -= first.querySelectorAll(".ln").length;
      first.remove();
    }
    if (this.#following) this.toEnd();
  }

  toEnd() {
    this.#follow(true);
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  stay() {
    this.#follow(false);
  }

  #follow(following) {
    if (this.#following === following) return;
    this.#following = following;
    this.#onFollow(following);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    if (clientHeight) this.#follow(scrollHeight - scrollTop - clientHeight < 40);
  }

  #block() {
    const last = this.#log.lastElementChild;
    if (last && last.childElementCount < BLOCK) return last;
    const block = document.createElement("div");
    block.className = "block";
    this.#log.append(block);
    return block;
  }

  #add(number, raw, stream) {
    const line = document.createElement("div");
    line.className = `ln ${stream}`;
    line.dataset.n = number;
    const text = document.createElement("span");
    text.textContent = shown(raw);
    line.append(text);
    this.#block().append(line);
    this.#lines += 1;
    return { line, raw: kept(raw) };
  }

  #extend(open, piece) {
    open.raw = kept(open.raw + piece);
    open.line.firstElementChild.textContent = shown(open.raw);
  }
}
