// What a reader chose, kept for this page over a reload. Without it (a private window) nothing is missing.

const name = (key) => `cmbagent ${location.pathname} ${key}`;

function read(key, otherwise) {
  try {
    return JSON.parse(sessionStorage.getItem(name(key))) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** A value that is still there after a reload of this tab. */
export function remembered(key, otherwise) {
  let kept = read(key, otherwise);
  return {
    get value() {
      return kept;
    },
    set value(value) {
      kept = value;
      try {
        sessionStorage.setItem(name(key), JSON.stringify(value));
      } catch {
        // full, or forbidden: then it is forgotten
      }
    },
  };
}
