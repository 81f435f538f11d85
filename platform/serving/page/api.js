// The API beside this page: what is on call, a chat as it streams in, a rating.

const base = new URL("v1/", document.baseURI);

/** What the server did not answer: in its own words, and when to come again. */
export class Refused extends Error {
  constructor(status, message, code = "", retryAfter = null) {
    super(retryAfter ? `${message} Come again in ${retryAfter} s.` : message);
    this.status = status;
    this.code = code;
  }
}

async function call(path, key, options = {}) {
  const headers = { Authorization: `Bearer ${key}`, ...options.headers };
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  const error = await response.json().then((document) => document.error, () => null);
  const message = error?.message ?? `The server answered ${response.status}.`;
  throw new Refused(response.status, message, error?.code, response.headers.get("retry-after"));
}

function post(path, key, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, key, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** Names that may be asked for: each model, and each of its versions as name@version. */
export async function listModels(key) {
  const document = await (await call("models", key)).json();
  return document.data.map((model) => model.id);
}

/** A chat's events, one by one; throws Refused, also for an error event within the stream. */
export async function* chat(key, body, signal) {
  const response = await post("chat/completions", key, { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Refused(0, "The answer broke off.");
      const events = (waiting + value).split("\n\n");
      waiting = events.pop();
      for (const event of events) {
        const text = event.replace(/^data: /, "");
        if (text === "[DONE]") return;
        const document = JSON.parse(text);
        if (document.error) throw new Refused(200, document.error.message, document.error.code);
        yield document;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refused) throw error;
    throw new Refused(0, "The answer broke off.");
  } finally {
    reader.cancel().catch(() => {}); // the stream is over, or broken: nothing is left to be told
  }
}

/** Rate an answer; `rating` is the body of POST /v1/feedback. */
export async function rate(key, rating) {
  await post("feedback", key, rating);
}
