// What the page asks the web server to do.

const LIMIT = 8000; // ms; a sender's own limits are shorter

// Returns what went wrong, in words for the user, or "" if nothing did.
export async function post(path, content, token) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Demo-Token": token },
      body: JSON.stringify(content),
      signal: AbortSignal.timeout(LIMIT),
    });
    return (await answer.json()).error ?? "";
  } catch (error) {
    return error.name === "TimeoutError"
      ? `no answer within ${LIMIT / 1000} s, so it may have been done or not`
      : "the web server did not answer; has the demo ended?";
  }
}
