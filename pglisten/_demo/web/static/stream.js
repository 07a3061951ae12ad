// The event stream of this window, or its share in another window's: a browser has six connections for all
// windows of a site, and a stream keeps one for good. The windows of a browser have STREAMS of them.

const STREAMS = 2;
const PAUSE = [700, 1300]; // ms until the next attempt
const JOIN_AGAIN = 2000; // ms until a window that shares asks again
const RECOUNT = 10000; // ms; a window that crashed says no goodbye
const KINDS = ["leaving", "hello", "state", "cast", "following", "heard", "gap", "read"];
const SNAPSHOT = ["hello", "following", "state", "cast"]; // what a window that joins has to know
const lockName = (slot) => `pglisten-demo-stream-${slot}`;

export const canShare = Boolean(navigator.locks && globalThis.BroadcastChannel);

export class Stream {
  // `deliver(kind, data)` gets each event, and besides: "down" with the attempts since, and "shares" with the
  // number of windows of each leading window.
  constructor(me, deliver) {
    this.me = me;
    this.leader = me;
    this.deliver = deliver;
    this.run = "";
    this.position = null;
    this.failed = 0;
    this.snapshot = new Map();
    this.shares = new Map();
  }

  start() {
    if (canShare) {
      this.everyone = new BroadcastChannel("pglisten-demo");
      this.everyone.onmessage = ({ data }) => this.#hear(data);
      addEventListener("pagehide", () => this.everyone.postMessage({ count: true }));
      setInterval(() => this.#recount(), RECOUNT);
      this.#takeSlot();
    } else {
      this.#open();
    }
  }

  async #takeSlot() {
    for (let slot = 0; slot < STREAMS; slot++) {
      if (await this.#lead(slot, { ifAvailable: true })) {
        return this.#recount();
      }
    }
    const { pending } = await navigator.locks.query();
    const waiting = (slot) => pending.filter((each) => each.name === lockName(slot)).length;
    const slots = [...Array(STREAMS).keys()].sort((a, b) => waiting(a) - waiting(b));
    this.slot = slots[0];
    this.#lead(this.slot, {}); // when the window that leads is closed
    this.leader = null;
    const join = () => {
      if (this.leader === null) {
        this.everyone.postMessage({ join: true, slot: this.slot, from: this.me });
        setTimeout(join, JOIN_AGAIN);
      }
    };
    join();
  }

  // Returns whether the slot is free; if it is, this window has it until it is closed.
  #lead(slot, options) {
    return new Promise((resolve) => {
      navigator.locks.request(lockName(slot), options, (lock) => {
        resolve(lock !== null);
        if (lock !== null) {
          this.slot = slot;
          this.leader = this.me;
          this.#open();
          this.#recount();
          return new Promise(() => {});
        }
      });
    });
  }

  get leads() {
    return this.leader === this.me;
  }

  #open() {
    const query = new URLSearchParams({ window: this.me, run: this.run });
    if (this.position !== null) {
      query.set("after", this.position);
    }
    const source = new EventSource(`/events?${query}`);
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this.#take(kind, JSON.parse(event.data)));
    }
    source.onerror = () => {
      // The browser's own retrying ends where a server answers with an error, and knows no position.
      source.close();
      this.#take("down", { failed: this.failed++ });
      setTimeout(() => this.#open(), PAUSE[0] + Math.random() * (PAUSE[1] - PAUSE[0]));
    };
  }

  #take(kind, data) {
    this.#pass(kind, data);
    this.everyone?.postMessage({ kind, data, slot: this.slot, from: this.me });
  }

  #pass(kind, data) {
    if (kind === "leaving") {
      this.failed = 0; // it is there, but about to be replaced
    } else if (kind === "hello") {
      this.failed = 0;
      this.position = data.run === this.run ? this.position : null;
      this.run = data.run;
    } else if (kind === "following" || kind === "read") {
      this.position = data.position;
    } else if (kind === "gap" || kind === "heard") {
      this.position ??= 0; // without an event log: this window was here before
    }
    if (SNAPSHOT.includes(kind)) {
      this.snapshot.set(kind, data);
    }
    this.deliver(kind, data);
  }

  #hear(told) {
    if (told.count || told.join) {
      this.#recount();
    }
    if (told.shares) {
      this.shares.set(told.from, told.shares);
      this.deliver("shares", this.shares);
    } else if (told.slot !== this.slot) {
      return;
    } else if (told.join && this.leads) {
      const snapshot = [...this.snapshot];
      this.everyone.postMessage({ snapshot, slot: this.slot, from: this.me, to: told.from });
    } else if (told.snapshot && told.to === this.me && this.leader === null) {
      this.leader = told.from;
      told.snapshot.forEach(([kind, data]) => this.#pass(kind, data));
    } else if (told.kind && this.leader !== null && !this.leads) {
      this.leader = told.from;
      this.#pass(told.kind, told.data);
    }
  }

  async #recount() {
    if (this.leads && canShare) {
      const { pending } = await navigator.locks.query();
      const count = 1 + pending.filter((each) => each.name === lockName(this.slot)).length;
      this.shares.set(this.me, count);
      this.everyone.postMessage({ shares: count, from: this.me });
      this.deliver("shares", this.shares);
    }
  }
}
