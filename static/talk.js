// The conversation: entries as the server made them, the newest of them; older ones on demand.

const KEEP = 400; // entries, while one is at the end

export class Talk {
  #thread;
  #entries;
  #url;

  constructor(thread, entries, url) {
    this.#thread = thread;
    this.#entries = entries;
    this.#url = url;
    entries.addEventListener("click", (event) => event.target.closest(".earlier") && this.earlier());
    this.toEnd();
  }

  get isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#thread;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  toEnd() {
    this.#thread.scrollTop = this.#thread.scrollHeight;
  }

  add(html) {
    this.#entries.insertAdjacentHTML("beforeend", html); // sanitised by the server
  }

  settle() {
    while (this.#entries.querySelectorAll("[data-seq]").length > KEEP) this.#dropFirst();
    this.toEnd();
  }

  #dropFirst() {
    let button = this.#entries.querySelector(".earlier");
    if (!button) {
      button = Object.assign(document.createElement("button"), { type: "button", className: "btn quiet earlier" });
      button.textContent = "Earlier entries";
      this.#entries.prepend(button);
    }
    button.nextElementSibling.remove();
    button.dataset.before = button.nextElementSibling.dataset.seq;
  }

  /** The page before the first entry shown; the scroll place stays. False: there is none. */
  async earlier() {
    const button = this.#entries.querySelector(".earlier");
    if (!button || button.disabled) return false;
    button.disabled = true;
    const answer = await fetch(`${this.#url}?before=${button.dataset.before}`).catch(() => null);
    button.disabled = false;
    if (!answer?.ok || answer.redirected) return false;
    const first = button.nextElementSibling;
    const top = first?.getBoundingClientRect().top;
    button.insertAdjacentHTML("afterend", await answer.text());
    button.remove();
    if (first) this.#thread.scrollTop += first.getBoundingClientRect().top - top;
    return true;
  }

  /** Bring the entry of an event into sight, with the pages before it if need be. */
  async show(seq) {
    const here = () => this.#entries.querySelector(`[data-seq="${seq}"]`);
    while (!here() && (await this.earlier()));
    const entry = here();
    if (!entry) return false;
    this.#entries.querySelector(".here")?.classList.remove("here");
    entry.classList.add("here");
    entry.scrollIntoView({ block: "center" });
    return true;
  }
}
