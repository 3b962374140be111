// What a terminal would make of a line: its last state, its colours as classes, nothing else.
// sessions_app/console/ansi.py does the same with the lines that the server renders.

export const LONGEST = 4000; // characters shown of one line; the whole log has all of it
const CUT = " … (the whole log has the rest)";
const SGR = /\x1b\[([0-9;]*)m/g;
const ESCAPES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;
const BEGUN = /\x1b(?:\[[0-?]*[ -/]*)?$/; // a piece may end within a colour
// They turn what follows them around: text of a model or of code could look like other text.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;
// what a terminal makes of 0 to 15, to find the nearest of them
const PALETTE = [
  [0, 0, 0], [205, 0, 0], [0, 205, 0], [205, 205, 0], [0, 0, 238], [205, 0, 205], [0, 205, 205], [229, 229, 229],
  [127, 127, 127], [255, 0, 0], [0, 255, 0], [255, 255, 0], [92, 92, 255], [255, 0, 255], [0, 255, 255], [255, 255, 255],
];

export const unmasked = (text) =>
  text.replace(TURNING, (found) => `[U+${found.codePointAt(0).toString(16).toUpperCase()}]`);
const clean = (text) => unmasked(text.replace(ESCAPES, ""));

/** Where the last state of a line begins: a progress bar overwrites it with \r. */
const startOf = (raw) => raw.replace(/\r+$/, "").lastIndexOf("\r") + 1;

// -- pens: { colour: 0 to 15 or null, bold } ------------------------------------------------------
export const PLAIN = { colour: null, bold: false };

export const penOf = (classes) => {
  const colour = classes.match(/\ba(\d+)\b/);
  return { colour: colour && Number(colour[1]), bold: /\bab\b/.test(classes) };
};

const classesOf = ({ colour, bold }) => [colour === null ? "" : `a${colour}`, bold ? "ab" : ""].join(" ").trim();

const changed = (pen, codes) => {
  const rest = codes.split(";").map(Number);
  while (rest.length) pen = step(pen, rest.shift(), rest);
  return pen;
};

function step(pen, code, rest) {
  if (code === 0) return PLAIN;
  if (code === 1 || code === 22) return { ...pen, bold: code === 1 };
  if (code === 39) return { ...pen, colour: null };
  if (code === 38 || code === 48) {
    const colour = extended(rest);
    return code === 38 ? { ...pen, colour } : pen;
  }
  if (code >= 30 && code <= 37) return { ...pen, colour: code - 30 };
  return code >= 90 && code <= 97 ? { ...pen, colour: code - 82 } : pen;
}

/** The nearest of our sixteen to what follows 38 or 48: `5;n` or `2;r;g;b`. */
function extended(rest) {
  const kind = rest.shift();
  if (kind === 5) return of256(rest.shift() ?? 0);
  return kind === 2 ? nearest([rest.shift() ?? 0, rest.shift() ?? 0, rest.shift() ?? 0]) : null;
}

function of256(number) {
  if (number < 16) return number;
  if (number > 231) return nearest(Array(3).fill(8 + 10 * (Math.min(number, 255) - 232)));
  const steps = [Math.floor((number - 16) / 36), Math.floor((number - 16) / 6) % 6, (number - 16) % 6];
  return nearest(steps.map((one) => (one ? 55 + 40 * one : 0)));
}

function nearest(rgb) {
  const distances = PALETTE.map((one) => one.reduce((sum, part, index) => sum + (part - rgb[index]) ** 2, 0));
  return distances.indexOf(Math.min(...distances));
}

const after = (pen, text) => {
  if (text.includes("\x1b")) for (const [, codes] of text.matchAll(SGR)) pen = changed(pen, codes);
  return pen;
};

/** The pen of one stream, over pieces that may end within a colour. */
export class Ink {
  #begun = "";

  constructor(pen = PLAIN) {
    this.pen = pen;
  }

  write(piece) {
    const text = this.#begun + piece;
    this.#begun = text.slice(-32).match(BEGUN)?.[0] ?? "";
    this.pen = after(this.pen, text);
  }
}

/** What of a line can still be shown, and the pen before it: one of 10 MB comes in hundreds of pieces. */
export function kept(raw, pen) {
  const start = startOf(raw);
  const text = raw.slice(start).replace(/\r+$/, "");
  return { raw: text.slice(0, LONGEST + 1) + (raw.endsWith("\r") ? "\r" : ""), pen: after(pen, raw.slice(0, start)) };
}

/** Fill an element with a line: text nodes, and spans of classes where it is coloured. */
export function paint(element, raw, pen) {
  const text = raw.replace(/\r+$/, "");
  const nodes = [];
  let room = LONGEST;
  for (const [piece, colour] of pieces(text, pen)) {
    nodes.push(inked(piece.slice(0, room), colour));
    if (piece.length > room) {
      nodes.push(CUT);
      break;
    }
    room -= piece.length;
  }
  element.replaceChildren(...nodes);
}

function* pieces(text, pen) {
  let at = 0;
  if (text.includes("\x1b"))
    for (const found of text.matchAll(SGR)) {
      yield [clean(text.slice(at, found.index)), pen];
      at = found.index + found[0].length;
      pen = changed(pen, found[1]);
    }
  yield [clean(text.slice(at)), pen];
}

function inked(text, pen) {
  const classes = text && classesOf(pen);
  if (!classes) return text;
  const span = document.createElement("span");
  span.className = classes;
  span.textContent = text;
  return span;
}
