// The open book: the lines of the ledgers as rows of a table. Payloads are shown with textContent only: any
// user of the database can send any text.

const $ = (id) => document.getElementById(id);
const LONG = 48; // characters from which a message can be unfolded

export class Book {
  constructor(me, ledger) {
    this.me = me;
    this.ledger = ledger;
    this.rows = new Map();
    this.hasLog = true;
  }

  // Shows the ledger as it is now.
  show() {
    const pages = $("pages");
    const atEnd = pages.scrollHeight - pages.scrollTop - pages.clientHeight < 60;
    const { lines } = this.ledger;
    for (const [line, row] of this.rows) {
      if (!lines.includes(line)) {
        row.remove();
        this.rows.delete(line);
      }
    }
    let place = $("rows").firstElementChild;
    for (const [index, line] of lines.entries()) {
      const row = this.#row(line);
      if (row === place) {
        place = place.nextElementSibling;
      } else {
        $("rows").insertBefore(row, place);
      }
      this.#update(line, row, index);
    }
    $("empty").hidden = lines.length > 0;
    this.#showTally();
    if (atEnd) {
      pages.scrollTop = pages.scrollHeight;
    }
  }

  #row(line) {
    if (!this.rows.has(line)) {
      const row = element("tr", line.kind);
      row.append(element("th", "no"), element("td", "left"), element("td", "right"));
      row.firstElementChild.scope = "row";
      this.rows.set(line, row);
    }
    return this.rows.get(line);
  }

  #update(line, row, index) {
    const [no, left, right] = row.children;
    no.textContent = line.kind === "gap" ? "" : (line.position ?? (this.hasLog ? "·" : index + 1));
    if (line.kind === "gap") {
      fill(left, gapText(this.ledger.lostBefore(line)), (text) => [element("span", "text", text)]);
      fill(right, this.hasLog ? "no gap here" : "", (text) => [element("span", "text", text)]);
      return;
    }
    const how = line.lost ? "lost" : line.heard ? "heard" : "waiting";
    const then = !this.hasLog ? "none" : !line.read ? "waiting" : line.lost ? "late" : "read";
    row.classList.toggle("late", then === "late");
    fill(left, how, () => this.#cell(line, line.lost, LEFT[how]));
    fill(right, then, () => (this.hasLog ? this.#cell(line, false, RIGHT[then]) : []));
  }

  #cell(line, struck, { word, symbol, kind }) {
    const text = element(struck ? "del" : "span", "text");
    text.append(who(line.name, this.me), line.text);
    const mark = element("span", `mark ${kind}`);
    mark.style.setProperty("--order", this.#lostInARow(line));
    text.style.setProperty("--order", this.#lostInARow(line));
    mark.append(element("span", "symbol", symbol), element("span", "word", word));
    mark.firstElementChild.setAttribute("aria-hidden", "true");
    const cell = element("div", "cell");
    cell.append(text, ...(line.text.length > LONG ? [this.#unfold(line)] : []), mark);
    return [cell];
  }

  // One after another they are struck out, and stamped.
  #lostInARow(line) {
    const { lines } = this.ledger;
    let at = lines.indexOf(line);
    let before = 0;
    while (lines[--at]?.lost) {
      before += 1;
    }
    return before;
  }

  #unfold(line) {
    const row = this.rows.get(line);
    const button = element("button", "unfold", "all");
    button.type = "button";
    button.setAttribute("aria-label", "Show the whole message");
    const unfolded = () => row.classList.contains("unfolded");
    button.setAttribute("aria-expanded", unfolded());
    button.addEventListener("click", () => {
      row.classList.toggle("unfolded");
      for (const each of row.querySelectorAll(".unfold")) {
        each.setAttribute("aria-expanded", unfolded());
        each.textContent = unfolded() ? "less" : "all";
      }
    });
    return button;
  }

  #showTally() {
    const { sent, heard, lost, read, late } = this.ledger.tally;
    const off = "Off: in a database of yours the demo makes no tables. Start it with --log.";
    $("left-tally").replaceChildren(...tally(heard, sent, lost && `${lost} lost`));
    $("right-tally").replaceChildren(...(this.hasLog ? tally(read, sent, late && `${late} caught up`) : [off]));
  }
}

const LEFT = {
  heard: { word: "heard", symbol: "✓", kind: "fine" },
  lost: { word: "lost", symbol: "✗", kind: "bad" },
  waiting: { word: "not heard yet", symbol: "…", kind: "waiting" },
};
const RIGHT = {
  read: { word: "read", symbol: "✓", kind: "fine" },
  late: { word: "caught up", symbol: "late", kind: "stamp" },
  waiting: { word: "not read yet", symbol: "…", kind: "waiting" },
};

// Makes the content of a cell anew if it says something else: what has not changed is not animated again.
function fill(cell, says, make) {
  if (cell.dataset.says !== says) {
    cell.dataset.says = says;
    cell.replaceChildren(...make(says));
  }
}

function gapText(lost) {
  return lost ? `gap: ${lost} lost here` : "gap: anything may be missing here";
}

function who(name, me) {
  const shown = element("span", "who", name === me ? "you" : name === "the shop" ? name : name && "another");
  if (shown.textContent === "another") {
    shown.append(element("span", "wide", " window"));
  }
  return shown;
}

function tally(number, of, more) {
  const parts = [element("b", "", String(number)), ` of ${of}`];
  return more ? [...parts, element("span", "more", more)] : parts;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
