// What the two ledgers say. No document here: only lines, in the order of commits.

export const MOST_LINES = 300;

export class Ledger {
  constructor() {
    this.lines = []; // messages and gaps, the oldest first
    this.tally = { sent: 0, heard: 0, lost: 0, read: 0, late: 0 };
  }

  // Each of these returns the line that it has made or changed.

  sent({ key, name, text }) {
    return this.#find(key) ?? this.#append({ kind: "message", key, name, text });
  }

  heard(message) {
    const line = this.sent(message);
    line.heard = true;
    line.lost = false;
    if (this.lines.indexOf(line) < this.#lastGap()) {
      // It came through the new connection: it stands after the gap.
      this.lines.splice(this.lines.indexOf(line), 1);
      this.lines.push(line);
    }
    return this.#count(line);
  }

  gap() {
    for (const line of this.lines) {
      // What was sent before this and was not heard until now will not be heard.
      line.lost ||= line.kind === "message" && !line.heard;
    }
    return this.#append({ kind: "gap" });
  }

  read(message, position) {
    // A notification overtakes the entry, which is asked for after it: without one, it is lost.
    const line = this.#find(message.key) ?? this.#insert({ kind: "message", ...message });
    line.position = position;
    line.read = true;
    if (!line.heard) {
      line.lost = true;
      this.#sort(line);
    }
    return this.#count(line);
  }

  // How many lost messages stand directly before a gap.
  lostBefore(gap) {
    let lost = 0;
    for (let at = this.lines.indexOf(gap) - 1; at >= 0 && this.lines[at].lost; at--) {
      lost += 1;
    }
    return lost;
  }

  #find(key) {
    return this.lines.find((line) => line.kind === "message" && line.key === key);
  }

  #lastGap() {
    return this.lines.findLastIndex((line) => line.kind === "gap");
  }

  #append(line) {
    this.lines.push(line);
    return this.#count(line);
  }

  #insert(line) {
    // Before a gap after which nothing was heard yet: that is what the gap stands for.
    const last = this.lines.at(-1);
    this.lines.splice(last?.kind === "gap" ? -1 : this.lines.length, 0, line);
    return line;
  }

  // Puts the lost lines around this one into the order of commits.
  #sort(line) {
    const unheard = (at) => this.lines[at]?.lost;
    let first = this.lines.indexOf(line);
    let end = first + 1;
    while (unheard(first - 1)) {
      first -= 1;
    }
    while (unheard(end)) {
      end += 1;
    }
    const place = (each) => each.position ?? Infinity;
    const sorted = this.lines.slice(first, end).sort((a, b) => place(a) - place(b) || 0);
    this.lines.splice(first, end - first, ...sorted);
  }

  #count(line) {
    this.lines.splice(0, this.lines.length - MOST_LINES);
    const messages = this.lines.filter((each) => each.kind === "message");
    const count = (fits) => messages.filter(fits).length;
    this.tally = {
      sent: messages.length,
      heard: count((each) => each.heard),
      lost: count((each) => each.lost),
      read: count((each) => each.read),
      late: count((each) => each.lost && each.read),
    };
    return line;
  }
}
