// The drawing: sender, PostgreSQL, workers and windows, and a dot that travels for each message.

const $ = (id) => document.getElementById(id);
const lines = $("lines");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const SPEED = 0.55; // pixels per millisecond
const MOST_DOTS = 80;

export class Drawing {
  constructor(me) {
    this.me = me;
    this.leader = me; // whose event stream this window has
    this.workers = new Map(); // by process id: its element, its lines and its fields
    this.shares = new Map(); // windows that hang on one stream, by the window that leads
    this.cast = [];
    this.fromSender = this.#line();
    new ResizeObserver(() => this.#layOut()).observe($("stage"));
  }

  // Draws the workers and their windows.
  show(cast) {
    this.cast = cast;
    const ids = new Set(cast.map((each) => each.worker));
    for (const [id, drawn] of this.workers) {
      if (!ids.has(id)) {
        drawn.element.remove();
        drawn.toWorker.remove();
        drawn.toWindows.remove();
        this.workers.delete(id);
      }
    }
    for (const fields of cast) {
      this.#showWorker(fields);
    }
    this.#layOut();
  }

  get windowCount() {
    return this.cast.flatMap((each) => each.windows).reduce((sum, id) => sum + (this.shares.get(id) ?? 1), 0);
  }

  #showWorker(fields) {
    if (!this.workers.has(fields.worker)) {
      const element = $("worker-template").content.firstElementChild.cloneNode(true);
      $("workers").append(element);
      this.workers.set(fields.worker, { element, toWorker: this.#line(), toWindows: this.#line() });
    }
    const drawn = this.workers.get(fields.worker);
    Object.assign(drawn, { fields });
    drawn.element.querySelector(".backend").textContent = fields.backend;
    drawn.element.classList.toggle("away", fields.away);
    drawn.toWorker.classList.toggle("away", fields.away);
    const windows = drawn.element.querySelector(".windows");
    const all = fields.windows.flatMap((id) => Array(this.shares.get(id) ?? 1).fill(id));
    drawn.toWindows.classList.toggle("none", all.length === 0);
    const shown = all.slice(0, 12).map((id, index) => {
      const chip = $("window-template").content.firstElementChild.cloneNode(true);
      if (id === this.leader && index === all.indexOf(id)) {
        chip.classList.add("this");
        chip.firstElementChild.textContent = "this window";
      }
      return chip;
    });
    windows.replaceChildren(...shown);
    if (all.length > shown.length) {
      windows.lastElementChild.textContent = `+${all.length - shown.length + 1}`;
    }
  }

  // Lets a dot travel for a message, and returns when it is there. Of a line that is cut, it falls.
  async send({ fromSender = true } = {}) {
    if (fromSender) {
      await travel(this.fromSender);
    }
    pulse($("database"));
    await Promise.all([...this.workers.values()].map((drawn) => this.#passOn(drawn)));
  }

  async #passOn({ element, fields, toWorker, toWindows }) {
    if (fields.away) {
      return travel(toWorker, { falls: true });
    }
    await travel(toWorker);
    pulse(element.firstElementChild);
    if (fields.windows.length) {
      await travel(toWindows);
      element.querySelectorAll(".window").forEach(pulse);
    }
  }

  // Lets a dot travel for an entry that was kept for so long.
  async catchUp() {
    pulse($("database"));
    const back = [...this.workers.values()].filter(({ fields }) => !fields.away);
    await Promise.all(
      back.map(async ({ fields, toWorker, toWindows, element }) => {
        await travel(toWorker, { kind: "late" });
        if (fields.windows.length) {
          await travel(toWindows, { kind: "late" });
          element.querySelectorAll(".window").forEach(pulse);
        }
      }),
    );
  }

  #line() {
    const path = document.createElementNS(lines.namespaceURI, "path");
    path.setAttribute("class", "line");
    lines.append(path);
    return path;
  }

  #layOut() {
    const stage = $("stage").getBoundingClientRect();
    const edge = (element, side) => {
      const box = element.getBoundingClientRect();
      return [box[side] - stage.left, box.top + box.height / 2 - stage.top];
    };
    lines.setAttribute("viewBox", `0 0 ${stage.width} ${stage.height}`);
    draw(this.fromSender, edge($("sender"), "right"), edge($("database"), "left"));
    for (const { element, toWorker, toWindows } of this.workers.values()) {
      const [worker, windows] = element.children;
      draw(toWorker, edge($("database"), "right"), edge(worker, "left"));
      draw(toWindows, edge(worker, "right"), edge(windows, "left"));
    }
    const [from] = edge($("database"), "right");
    const [to] = this.workers.size ? edge($("workers"), "left") : [from];
    $("countdown").style.left = `${(from + to) / 2}px`;
  }
}

function draw(path, [x1, y1], [x2, y2]) {
  const middle = (x1 + x2) / 2;
  path.setAttribute("d", `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`);
}

// Moves a dot along a path; one that falls leaves it in the middle.
function travel(path, { kind = "", falls = false } = {}) {
  if (still.matches || document.hidden || lines.querySelectorAll(".dot").length > MOST_DOTS) {
    return Promise.resolve();
  }
  const length = path.getTotalLength();
  const dot = document.createElementNS(lines.namespaceURI, "circle");
  dot.setAttribute("class", `dot ${kind}`);
  dot.setAttribute("r", 5);
  lines.append(dot);
  const duration = Math.max(180, length / SPEED);
  return new Promise((resolve) => {
    let began = null;
    const step = (now) => {
      began ??= now;
      const share = (now - began) / duration;
      const along = Math.min(share, falls ? 0.5 : 1) * length;
      const { x, y } = path.getPointAtLength(along);
      const fallen = falls ? Math.max(0, share - 0.5) : 0;
      dot.setAttribute("cx", x + fallen * 14);
      dot.setAttribute("cy", y + fallen * fallen * 90);
      dot.setAttribute("opacity", 1 - fallen / 1.2);
      dot.classList.toggle("lost", fallen > 0);
      if (share < (falls ? 1.7 : 1)) {
        requestAnimationFrame(step);
      } else {
        dot.remove();
        resolve();
      }
    };
    requestAnimationFrame(step);
  });
}

function pulse(element) {
  if (!still.matches) {
    element.animate(["brightness(1)", "brightness(1.3)", "brightness(1)"].map((filter) => ({ filter })), 350);
  }
}
