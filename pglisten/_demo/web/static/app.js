"use strict";
// The page of `pglisten demo`. Payloads are shown with textContent only: any user of the
// database can send any text.

const LONGEST_LOG = 200;
const PAUSE_BEFORE_RETRY = 1000; // ms; the browser's own retrying ends where a server answers with an error
const LOOK_BACK = 8000; // ms for which "back" stays before it says "connected"
const PATIENCE = 15000; // ms after which a button may be pressed again, whatever has become of it

const $ = (id) => document.getElementById(id);
let hello = null; // what the worker said of itself when the stream began
let returning = false; // whether there was a stream before this one
let shown = ""; // the channel to show; "" for all of them
let lookBack = 0; // timer
let serverPid = null;

// The stream

function open() {
  const source = new EventSource(hello ? "/events?again" : "/events");
  source.addEventListener("hello", (event) => begin(JSON.parse(event.data)));
  source.addEventListener("notification", (event) => arrived(JSON.parse(event.data)));
  source.addEventListener("gap", () => mark("gap", "Gap: something may have been missed here."));
  source.addEventListener("state", (event) => changed(JSON.parse(event.data)));
  source.onerror = () => {
    streamLost();
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(open, PAUSE_BEFORE_RETRY);
    }
  };
}

function begin(greeting) {
  returning = hello !== null;
  hello = greeting;
  $("path").dataset.stream = "up";
  $("server").textContent = hello.server;
  $("worker").textContent = hello.worker;
  $("backend").textContent = hello.backend;
  $("restart").textContent = hello.restarts ? "Restart the database" : "Cut the connections to the database";
  for (const id of ["restart", "reload", "submit"]) {
    $(id).disabled = false;
  }
  showChannels();
  if (returning) {
    mark("back", `The event stream is back, from worker ${hello.worker} (${hello.backend}).`);
  }
  say("connecting", ...WORDS.connecting);
}

function streamLost() {
  if ($("path").dataset.stream === "up") {
    mark("lost", `The event stream from worker ${hello.worker} has ended.`);
  }
  $("path").dataset.stream = "down";
  $("path").dataset.database = "waiting";
  say("lost", "Connection lost", "between this page and its worker. The browser tries again.");
  detail("");
}

// How it stands

const WORDS = {
  connecting: ["Connecting", "to the database."],
  connected: ["Connected", "to the database. What is sent arrives here."],
  lost: ["Connection lost", "between the worker and the database. What is sent now does not arrive."],
  back: ["Back", "and listening again. Something may have been missed."],
};

function changed(state) {
  const was = $("state").dataset.state;
  $("path").dataset.database = { connecting: "waiting", lost: "down" }[state.name] ?? "up";
  serverPid = state.server_pid;
  if (state.name === "lost" && was !== "lost") {
    mark("lost", "The connection to the database is lost.");
  } else if (state.name === "back") {
    mark("back", "The connection to the database is back, and every channel is listened to again.");
    $("restart").disabled = false;
  }
  show(state.name === "connected" && returning ? { ...state, name: "back" } : state);
  returning &&= state.name === "connecting";
}

function show(state) {
  if (state.name !== $("state").dataset.state) {
    say(state.name, ...WORDS[state.name]);
  }
  showDetail(state);
  clearTimeout(lookBack);
  if (state.name === "back") {
    lookBack = setTimeout(() => show({ ...state, name: "connected" }), LOOK_BACK);
  }
}

function showDetail(state) {
  const failed = state.attempts === 1 ? "1 attempt" : `${state.attempts} attempts`;
  const parts = {
    connecting: state.error ? [`${failed} failed: ${state.error}`] : [],
    connected: [`The worker's session is server process ${state.server_pid}, and all its pages share it.`],
    lost: state.attempts ? [`${failed} to come back failed: ${state.error}`] : [state.error],
    back: [`The worker's session is server process ${state.server_pid} now. Where a gap is marked, a program looks
      at its tables: PostgreSQL keeps no notification for a listener that is not there.`],
  };
  detail(parts[state.name].join(" "));
}

function say(name, word, text) {
  $("state").dataset.state = name;
  $("state-word").textContent = word;
  $("state-text").textContent = text;
}

function detail(text) {
  $("detail").textContent = text;
}

// What has arrived

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function clock() {
  const made = element("time", "", new Date().toLocaleTimeString());
  made.dateTime = new Date().toISOString();
  return made;
}

function content(payload) {
  try {
    const message = JSON.parse(payload);
    if (typeof message.name === "string" && typeof message.text === "string") {
      return [message.name || "anonymous", message.text];
    }
  } catch {
    // Sent by another program.
  }
  return ["", payload];
}

function arrived(notification) {
  const [name, text] = content(notification.payload);
  const row = element("li", "note", "");
  const head = element("div", "head", "");
  const number = hello.channels.findIndex((channel) => channel.name === notification.channel);
  head.append(element("span", `channel channel-${number}`, label(notification.channel)));
  head.append(element("span", "sender", name), clock());
  row.append(head, element("p", "text", text));
  const from = notification.pid === serverPid ? "this worker's session" : "session";
  row.append(
    element(
      "p",
      "route",
      `sent by ${from} ${notification.pid} · came through worker ${notification.worker} (${notification.backend})`,
    ),
  );
  row.dataset.channel = notification.channel;
  for (const count of document.querySelectorAll("#filter .count")) {
    if (["", notification.channel].includes(count.dataset.channel)) {
      count.textContent = Number(count.textContent) + 1;
    }
  }
  put(row);
}

function mark(kind, text) {
  const row = element("li", `marker ${kind}`, "");
  row.append(element("span", "", text), clock());
  put(row);
}

function put(row) {
  $("empty").hidden = true;
  row.hidden = !isShown(row);
  $("log").prepend(row);
  while ($("log").children.length > LONGEST_LOG) {
    $("log").lastElementChild.remove();
  }
}

// Channels

function label(channel) {
  return hello.channels.find((each) => each.name === channel)?.label ?? channel;
}

function isShown(row) {
  // Markers are about every channel.
  return shown === "" || (row.dataset.channel ?? shown) === shown;
}

function showChannels() {
  // A demo that was started anew at the same address may have others.
  const names = hello.channels.map((channel) => channel.name).join();
  if ($("channel").dataset.names === names) {
    return;
  }
  $("channel").dataset.names = names;
  $("channel").replaceChildren();
  $("filter").replaceChildren($("filter").firstElementChild);
  shown = "";
  for (const { name, label } of hello.channels) {
    $("channel").append(new Option(label, name));
  }
  for (const { name, label } of [{ name: "", label: "all" }, ...hello.channels]) {
    const choice = element("label", "", "");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "shown", value: name, checked: name === "" });
    const count = element("span", "count", "0");
    count.dataset.channel = name;
    choice.append(radio, element("span", "", label), count);
    choice.title = name && `channel ${name}`;
    $("filter").append(choice);
  }
}

$("filter").addEventListener("change", (event) => {
  shown = event.target.value;
  for (const row of $("log").children) {
    row.hidden = !isShown(row);
  }
});

// What can be done

async function post(path, content) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Demo-Token": hello.token },
      body: JSON.stringify(content),
    });
    return await answer.json();
  } catch {
    return { error: "the web server did not answer" };
  }
}

$("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await post("/send", {
    channel: $("channel").value,
    name: $("name").value.trim(),
    text: $("text").value,
  });
  $("sent").className = answer.error ? "quiet bad" : "quiet";
  $("sent").textContent = answer.error
    ? `Not sent: ${answer.error}`
    : `Sent to ${label($("channel").value)}, by worker ${answer.worker} (${answer.backend}).`;
  if (!answer.error) {
    $("text").value = "";
  }
  if (document.activeElement === $("submit")) {
    $("text").focus();
  }
});

for (const id of ["restart", "reload"]) {
  $(id).addEventListener("click", async () => {
    $(id).disabled = true;
    setTimeout(() => ($(id).disabled = false), PATIENCE);
    const answer = await post(`/${id}`, {});
    if (answer.error) {
      detail(`That did not work: ${answer.error}`);
      $(id).disabled = false;
    }
  });
}

open();
