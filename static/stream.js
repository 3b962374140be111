// One WebSocket a tab: resumable, ordered, each event exactly once into `apply`.
// Commands never travel here: they are HTTP requests, so that nothing stale is sent by a reconnect.

const WAKE_MS = 3000; // a socket that stays silent this long after a wake-up is replaced
const CONNECT_MS = 8000;
const SLICE = 600; // events a frame of animation
const MAX_DELAY_MS = 10000;
const REWIND_MS = 3000; // between two rewinds: the server allows twenty a minute
const SLEPT_MS = 5000; // the clock jumped: this machine slept
const FATAL = { 4401: "sign-in", 4404: "gone", 4410: "outdated" };

// requestAnimationFrame never fires in a hidden tab, nor in one that is hidden before it would
function soon(work) {
  let isDone = false;
  const once = () => {
    if (isDone) return;
    isDone = true;
    work();
  };
  if (!document.hidden) requestAnimationFrame(once);
  setTimeout(once, 250);
}

export class Stream {
  #socket = null;
  #tries = 0;
  #timer = 0;
  #heard = 0; // when the last byte came
  #queue = [];
  #flushing = false;
  #subscription = 0;
  #asked = -REWIND_MS; // when we last asked for events
  #rewind = 0; // the timer of the next rewind
  #build = "";
  #ticked = Date.now();
  #heartbeat = 15000;
  #state = "";

  /** `apply(events)` must have put them into the page when it returns: then they are acknowledged. */
  constructor({ url, session, after, epoch, apply, onState, onBuild, onReset }) {
    Object.assign(this, { url, session, after, epoch, apply, onState, onBuild, onReset });
    const wake = () => document.hidden || this.wake();
    document.addEventListener("visibilitychange", wake);
    document.addEventListener("resume", wake); // after a freeze
    addEventListener("focus", wake);
    addEventListener("online", wake);
    addEventListener("pageshow", (event) => event.persisted && this.wake());
    addEventListener("offline", () => this.#become("offline"));
    setInterval(() => this.#tick(), 1000);
    this.#open();
  }

  get silentFor() {
    return performance.now() - this.#heard;
  }

  /** Prove within WAKE_MS that the socket is alive, or replace it now. */
  wake() {
    if (this.#ended()) return;
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      this.retry();
      return;
    }
    this.#send({ type: "ping", id: 0 });
    const mark = this.#heard;
    setTimeout(() => this.#socket && this.#heard === mark && this.retry(), WAKE_MS);
  }

  retry() {
    this.#tries = 0;
    this.#open();
  }

  #ended() {
    return Object.values(FATAL).includes(this.#state);
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.onState(state);
  }

  #open() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#become(this.#heard || this.#tries ? "reconnecting" : "connecting");
    const socket = (this.#socket = new WebSocket(this.url));
    const mine = (handle) => (event) => socket === this.#socket && handle(event);
    socket.started = performance.now();
    socket.onopen = mine(() => this.#subscribe());
    socket.onmessage = mine((event) => {
      this.#heard = performance.now();
      this.#receive(JSON.parse(event.data));
    });
    socket.onclose = mine((event) => this.#closed(event.code));
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#queue.length = 0;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #closed(code) {
    this.#socket = null;
    if (code === 4410) this.onBuild();
    if (FATAL[code]) this.#become(FATAL[code]);
    else this.#again();
  }

  #again() {
    this.#drop();
    this.#tries += 1;
    this.#become(navigator.onLine ? "reconnecting" : "offline");
    const cap = Math.min(MAX_DELAY_MS, 400 * 2 ** Math.min(this.#tries, 8));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), 200 + Math.random() * cap);
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #subscribe() {
    this.#queue.length = 0;
    this.#subscription += 1;
    this.head = undefined;
    this.#asked = performance.now();
    clearTimeout(this.#rewind);
    this.#rewind = 0;
    const { session, after, epoch } = this;
    this.#send({ type: "subscribe", id: this.#subscription, session, after, epoch, format: "html" });
  }

  // Silence for two heartbeats means a half-open socket: nobody told us that the other end is gone.
  #tick() {
    const slept = Date.now() - this.#ticked > SLEPT_MS;
    this.#ticked = Date.now();
    if (slept) this.wake();
    const socket = this.#socket;
    if (!socket) return;
    if (socket.readyState === WebSocket.CONNECTING) {
      if (performance.now() - socket.started > CONNECT_MS) this.#again();
    } else if (this.silentFor > 2 * this.#heartbeat) this.#again();
    else if (this.silentFor > this.#heartbeat) this.#send({ type: "ping", id: 1 });
  }

  #receive(frame) {
    if (frame.type === "hello") this.#greet(frame);
    else if (frame.type === "pong") this.#compare(frame.sent?.[this.session] ?? 0);
    else if (frame.type === "error" && frame.code === "not_found") this.#become("gone");
    else if (frame.type === "error" && frame.code === "slow_down") this.#rewindSoon();
    else if (frame.session !== this.session) return;
    else if (frame.type === "events" && frame.id === this.#subscription) this.#enqueue(frame.events);
    else if (frame.type === "live") this.#live(frame.head);
    else if (frame.type === "reset") this.onReset();
  }

  #greet({ heartbeat_s: seconds, build }) {
    this.#heartbeat = seconds * 1000;
    if (this.#build && build !== this.#build) this.onBuild();
    this.#build = build;
  }

  #live(head) {
    this.#tries = 0;
    this.head = head;
    if (this.#queue.length) return;
    if (this.after >= head) this.#become("live");
    else this.#rewindSoon(); // what came before this frame was lost
  }

  // The server says it sent more than we ever saw: something was lost on the way.
  #compare(sent) {
    if (sent > this.after && !this.#queue.length) this.#rewindSoon();
    else if (this.#state === "offline") this.#become("live"); // the network went and came, the socket stayed
  }

  #enqueue(events) {
    if (this.#state !== "live") this.#become("catching-up");
    this.#queue.push(...events);
    this.#queue.sort((one, other) => one.seq - other.seq); // frames may have changed places on the way
    if (this.#flushing) return;
    this.#flushing = true;
    soon(() => this.#flush());
  }

  #flush() {
    const { taken, gap } = this.#take();
    if (taken.length) {
      this.apply(taken);
      this.after = taken.at(-1).seq; // only now: what is not in the page is asked for again
      this.#send({ type: "ack", session: this.session, seq: this.after });
    }
    if (gap) this.#rewindSoon();
    if (this.#queue.length) {
      soon(() => this.#flush());
      return;
    }
    this.#flushing = false;
    if (this.#state === "catching-up" && this.after >= (this.head ?? Infinity)) this.#become("live");
  }

  // The next events without a hole; what we have already is dropped.
  #take() {
    const taken = [];
    while (this.#queue.length && taken.length < SLICE) {
      const next = this.after + taken.length + 1;
      const event = this.#queue.shift();
      if (event.seq > next) {
        this.#queue.length = 0; // all of it comes again
        return { taken, gap: true };
      }
      if (event.seq === next) taken.push(event);
    }
    return { taken, gap: false };
  }

  // Ask again from what we have; not at once when we have just asked.
  #rewindSoon() {
    if (this.#rewind) return;
    this.#become("catching-up");
    const rest = Math.max(0, REWIND_MS - (performance.now() - this.#asked));
    this.#rewind = setTimeout(() => this.#subscribe(), rest);
  }
}
