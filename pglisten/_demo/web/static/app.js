// The page of `pglisten demo`: what arrives goes to the ledgers, the book and the drawing.

import { Book } from "/book.js";
import { Countdown } from "/countdown.js";
import { Drawing } from "/drawing.js";
import { Ledger } from "/ledger.js";
import { canShare, Stream } from "/stream.js";
import { post } from "/post.js";
import { words } from "/words.js";

const $ = (id) => document.getElementById(id);
const LOOK_BACK = 8000; // ms for which "back" stays
const SETTLE = 400; // ms of silence after which it is said what has changed: a screen reader reads it aloud

const me = crypto.getRandomValues(new Uint32Array(2)).reduce((id, part) => id + part.toString(36), "w");
const ledger = new Ledger();
const book = new Book(me, ledger);
const drawing = new Drawing(me);
const countdown = new Countdown();
const stream = new Stream(me, (kind, data) => taken[kind]?.(data));
let hello = null; // what the worker said of itself and of the demo when the stream began
let returning = false; // whether there was a stream before this one
let state = "connecting";
let since = { lost: 0, late: 0 }; // the tally when the connection was lost
let hellos = 1;
let timers = {};

const taken = {
  hello(data) {
    if (hello && hello.run !== data.run) {
      location.reload(); // another demo at this address
    }
    returning = hello !== null;
    hello = data;
    book.hasLog = hello.log;
    drawing.leader = stream.leader;
    $("server").textContent = hello.server;
    $("restart").hidden = !hello.restarts;
    for (const id of ["submit", "cut", "restart", "reload"]) {
      $(id).disabled = false;
    }
    $("cut").textContent = `Cut the workers off for ${hello.outage} s`;
    showCode(hello.code);
    say("connecting");
    book.show();
  },
  state(data) {
    if (data.name === "lost" && state !== "lost") {
      since = { ...ledger.tally };
    }
    const back = data.name === "connected" && (state === "back" || returning);
    returning &&= data.name === "connecting";
    say(back ? "back" : data.name, data);
  },
  cast({ workers, outage }) {
    drawing.leader = stream.leader;
    drawing.show(workers);
    countdown.show(outage);
    showKept();
  },
  shares(counts) {
    drawing.shares = counts;
    drawing.show(drawing.cast);
    $("sharing").hidden = stream.leads;
  },
  down({ failed }) {
    if (failed === 0) {
      since = { ...ledger.tally };
    }
    say(failed > 3 ? "gone" : "down");
  },
  heard({ payload }) {
    const message = content(payload);
    const known = ledger.lines.some((line) => line.key === message.key);
    ledger.heard(message);
    drawing.send({ fromSender: !known });
    changed();
  },
  gap() {
    ledger.gap();
    changed();
  },
  read({ position, payload }) {
    const line = ledger.read(content(payload), position);
    if (line.lost) {
      drawing.catchUp();
    }
    changed();
  },
};

// What is said of it

function say(name, data = {}) {
  if (name === "connected" && state !== "connected") {
    $("sent").textContent = ""; // what could not be sent before can be sent now
    $("sent").className = "";
  }
  state = name;
  const tally = { lost: ledger.tally.lost - since.lost, late: ledger.tally.late - since.late };
  const [word, text, detail = ""] = words[name]({ ...data, tally, hello, outage: countdown.kind });
  $("state").dataset.state = name;
  put($("state-word"), word);
  put($("state-text"), text);
  put($("detail"), detail); // changes with each attempt: not for a screen reader
  $("stage").dataset.line = name;
  if (name !== "back") {
    clearTimeout(timers.back);
    timers.back = null;
  } else if (!timers.back) {
    put($("sent"), "");
    $("sent").className = "";
    $("cut").disabled = $("restart").disabled = false;
    timers.back = setTimeout(() => say("connected"), LOOK_BACK);
  }
}

function put(element, text) {
  // A status that is written anew is spoken anew.
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function changed() {
  book.show();
  showKept();
  clearTimeout(timers.spoken);
  timers.spoken = setTimeout(() => {
    if (state === "back") {
      say("back");
    }
    const { sent, heard, read } = ledger.tally;
    put($("spoken"), `${sent} sent. ${heard} by notification. ${hello.log ? `${read} by the event log.` : ""}`);
  }, SETTLE);
}

function showKept() {
  const kept = ledger.lines.filter((line) => line.kind === "message" && !line.heard && !line.read).length;
  $("kept").hidden = !(kept && hello?.log);
  $("kept").textContent = `${kept} kept`;
}

function showCode(listings) {
  $("listings").replaceChildren(
    ...listings.map(({ caption, code }) => {
      const figure = document.createElement("figure");
      const text = document.createElement("pre");
      text.tabIndex = 0;
      text.textContent = code;
      figure.append(document.createElement("figcaption"), text);
      figure.firstElementChild.textContent = caption;
      return figure;
    }),
  );
}

function content(payload) {
  try {
    const { key, name, text } = JSON.parse(payload);
    if ([key, name, text].every((each) => typeof each === "string")) {
      return { key, name, text };
    }
  } catch {
    // Sent by another program.
  }
  return { key: payload, name: "", text: payload };
}

// What can be done

function nextHello() {
  $("text").placeholder = `A message, or just “Hello ${hellos}”`;
}

$("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value.trim() || `Hello ${hellos++}`;
  const message = { key: crypto.getRandomValues(new Uint32Array(3)).join("-"), name: me, text };
  $("text").value = "";
  nextHello();
  const error = await post("/send", message, hello.token);
  $("sent").className = error ? "bad" : "";
  put($("sent"), error ? `Not sent: ${error}` : "");
  if (error) {
    $("text").value ||= text;
  } else if (!ledger.lines.some((line) => line.key === message.key)) {
    ledger.sent(message);
    drawing.send();
    changed();
  }
});

for (const id of ["cut", "restart", "reload"]) {
  $(id).addEventListener("click", async () => {
    $(id).disabled = true;
    setTimeout(() => ($(id).disabled = false), 1000 * hello.outage + 3000);
    const error = await post(`/${id}`, {}, hello.token);
    if (error) {
      $("sent").className = "bad";
      put($("sent"), `That did not work: ${error}`);
      $(id).disabled = false;
    }
  });
}

$("alone").hidden = canShare;
nextHello();
stream.start();
