// What agents are saying just now: text that grows until the message that replaces it is in the page.

import { unmasked } from "./console.js";

export class Drafts {
  #box;
  #template;
  #entries;
  #drafts = []; // { agent, seq of its last part, isOpen, article }

  /** `template` holds an empty article; `entries` are the messages that are whole. */
  constructor(box, template, entries, seq) {
    this.#box = box;
    this.#template = template;
    this.#entries = entries;
    for (const article of box.children) {
      this.#drafts.push({ agent: article.dataset.agent, seq, isOpen: true, article });
    }
  }

  /** One `agent_delta` event. */
  add({ seq, data: { agent, content } }) {
    if (seq < this.#newest(agent)) return; // its message came by the other way, and sooner
    const draft = this.#drafts.find((one) => one.isOpen && one.agent === agent) ?? this.#begin(agent);
    draft.seq = seq;
    draft.article.querySelector("p").append(unmasked(content));
  }

  /** The message is there: what comes next belongs to another. */
  close(agent) {
    for (const draft of this.#drafts) draft.isOpen &&= draft.agent !== agent;
  }

  /** Nobody will end what was begun: the run ended, or begins again. */
  clear() {
    this.#keep(() => false);
  }

  /** Remove what stands among the entries by now. */
  settle() {
    this.#keep((draft) => draft.seq > this.#newest(draft.agent));
  }

  #keep(isKept) {
    const kept = this.#drafts.filter(isKept);
    for (const draft of this.#drafts) if (!kept.includes(draft)) draft.article.remove();
    this.#drafts = kept;
  }

  #newest(agent) {
    const said = [...this.#entries.querySelectorAll("[data-agent]")];
    return Number(said.findLast((entry) => entry.dataset.agent === agent)?.dataset.seq ?? 0);
  }

  #begin(agent) {
    const article = this.#template.content.firstElementChild.cloneNode(true);
    const name = agent === "cmbagent" ? "CMBAgent" : agent;
    article.dataset.agent = agent;
    article.querySelector(".who").textContent = name.slice(0, 2);
    article.querySelector("b").textContent = name;
    this.#box.append(article);
    const draft = { agent, seq: 0, isOpen: true, article };
    this.#drafts.push(draft);
    return draft;
  }
}
