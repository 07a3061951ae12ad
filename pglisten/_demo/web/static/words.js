// What the page says of how the connection stands: a word and a sentence.

const messages = (number) => (number === 1 ? "1 message" : `${number} messages`);
const attempts = (number) => (number === 1 ? "1 attempt" : `${number} attempts`);
const reason = (error) => error.split(" (remedy: ")[0].replace(/^the dsn function \S+ failed: \w+: /, "");

export const words = {
  connecting: ({ attempts: failed, error }) => [
    "Connecting",
    "to PostgreSQL.",
    failed ? `${attempts(failed)} failed: ${reason(error)}.` : "",
  ],
  connected: () => ["Connected.", "A message takes a few milliseconds from the sender to every window."],
  lost: ({ outage, attempts: failed, error }) => {
    const tried = failed ? `${attempts(failed)} to come back failed: ${reason(error)}.` : "";
    return outage === "restart"
      ? ["PostgreSQL is down.", "Nothing can be sent until it is back.", tried]
      : ["Cut off.", "Send something now: PostgreSQL takes it, and no worker hears it.", tried];
  },
  back: ({ tally: { lost, late }, hello }) => [
    "Back.",
    lost
      ? `${messages(lost)} went unheard: a notification is not kept for a listener that is away. ` +
        (hello?.log ? `The event log kept ${late < lost ? late : lost === 1 ? "it" : "all of them"}.` : "")
      : "Something may have gone unheard meanwhile, so the left ledger has a gap.",
  ],
  down: () => ["Stream lost", "between this window and its worker. It reconnects by itself."],
  gone: () => ["No answer.", "The demo has ended, or its web server is away. This page goes on trying."],
};
