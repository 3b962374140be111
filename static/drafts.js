// What agents are saying just now: text that grows until the message that replaces it is in the page.

import { unmasked } from "./ansi.js";

export class Drafts {
  #box;
  #template;

  /** `template` holds an empty article. */
  constructor(box, template) {
    this.#box = box;
    this.#template = template;
  }

  /** One `agent_delta` event. */
  add({ meta: { agent, content } }) {
    const draft = this.#find(agent) ?? this.#begin(agent);
    draft.querySelector("p").append(unmasked(content));
  }

  /** The message is there: what comes next belongs to another. */
  close(agent) {
    this.#find(agent)?.remove();
  }

  /** Nobody will end what was begun: the run ended, or begins again. */
  clear() {
    this.#box.replaceChildren();
  }

  #find(agent) {
    return [...this.#box.children].find((draft) => draft.dataset.agent === agent);
  }

  #begin(agent) {
    const draft = this.#template.content.firstElementChild.cloneNode(true);
    const name = agent === "cmbagent" ? "CMBAgent" : agent;
    draft.dataset.agent = agent;
    draft.querySelector(".who").textContent = name.slice(0, 2);
    draft.querySelector("b").textContent = name;
    this.#box.append(draft);
    return draft;
  }
}
