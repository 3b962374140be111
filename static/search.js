// Searching the whole console on the server, and walking through what was found.

export const placeOf = (anchor) => {
  const found = anchor.match(/^#?(?:R(\d+))?L(\d+)$/);
  return found && { run: Number(found[1] ?? 1), line: Number(found[2]) };
};

export class Search {
  #form;
  #box;
  #show;
  #needle = "";
  #at = -1; // the hit that was shown last

  /** `show(run, line)` brings a line into sight. */
  constructor(form, box, show) {
    this.#form = form;
    this.#box = box;
    this.#show = show;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter(1);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#close();
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      this.#enter(-1);
    });
    box.addEventListener("click", (event) => this.#clicked(event));
  }

  get #hits() {
    return [...this.#box.querySelectorAll(".hits a")];
  }

  #clicked(event) {
    const link = event.target.closest(".hits a");
    const button = event.target.closest("button");
    if (link) {
      event.preventDefault();
      this.#go(this.#hits.indexOf(link));
    } else if (button?.dataset.go) this.#go(this.#at + Number(button.dataset.go));
    else if (button && "on" in button.dataset) this.#lookOn();
    else if (button) this.#close();
  }

  #enter(step) {
    const needle = this.#form.elements.q.value.trim();
    if (needle && needle === this.#needle && !this.#box.hidden) this.#go(this.#at + step);
    else if (needle) this.#begin(needle);
  }

  async #begin(needle) {
    this.#needle = needle;
    this.#at = -1;
    this.#box.hidden = false;
    this.#box.querySelector(".hitlist").replaceChildren();
    await this.#fetch("0:0");
    if (this.#hits.length) this.#go(0);
  }

  #lookOn() {
    return this.#fetch([...this.#box.querySelectorAll(".hits")].at(-1).dataset.next);
  }

  async #fetch(after) {
    const needle = this.#needle;
    this.#say("Looking …");
    const query = new URLSearchParams({ q: needle, after });
    const answer = await fetch(`${this.#form.action}?${query}`).catch(() => null);
    if (needle !== this.#needle) return; // asked for something else meanwhile
    if (!answer?.ok || answer.redirected) {
      this.#say("The server did not answer. Press Enter to look again.");
      this.#needle = "";
      return;
    }
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text(); // our own template: text of code is escaped there
    this.#box.querySelector(".hitlist").append(holder.content);
    this.#count();
  }

  #go(index) {
    const hits = this.#hits;
    if (!hits.length) return;
    this.#at = (index + hits.length) % hits.length;
    hits.forEach((hit, at) => (hit.ariaCurrent = at === this.#at ? "true" : null));
    hits[this.#at].scrollIntoView({ block: "nearest" });
    this.#count();
    const { run, line } = placeOf(hits[this.#at].hash);
    this.#show(run, line);
  }

  #count() {
    const lists = [...this.#box.querySelectorAll(".hits")];
    const more = Boolean(lists.at(-1)?.dataset.next);
    const found = this.#hits.length;
    this.#box.querySelector("[data-on]").hidden = !more;
    const sum = found ? `${this.#at + 1 || "–"} of ${found}${more ? " so far" : ""}` : more ? "Nothing so far" : "Nothing found";
    this.#say(sum);
  }

  #say(text) {
    this.#box.querySelector(".sum").textContent = text;
  }

  #close() {
    this.#box.hidden = true;
    this.#needle = "";
  }
}
