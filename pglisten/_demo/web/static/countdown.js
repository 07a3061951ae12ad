// The seconds until the workers may come back, on the line that is cut.

const $ = (id) => document.getElementById(id);

export class Countdown {
  constructor() {
    this.kind = "";
    this.endsAt = 0;
    this.timer = 0;
  }

  // `outage` has its kind and the seconds left, or is null.
  show(outage) {
    clearInterval(this.timer);
    this.kind = outage?.kind ?? "";
    this.endsAt = performance.now() + 1000 * (outage?.seconds ?? 0);
    $("countdown").hidden = !outage;
    if (outage) {
      this.timer = setInterval(() => this.#tick(), 100);
      this.#tick();
    }
  }

  #tick() {
    const left = Math.max(0, this.endsAt - performance.now()) / 1000;
    $("countdown").firstElementChild.textContent = Math.ceil(left);
    $("countdown").style.setProperty("--left", left / 5);
    if (left === 0) {
      clearInterval(this.timer);
      $("countdown").hidden = true;
    }
  }
}
