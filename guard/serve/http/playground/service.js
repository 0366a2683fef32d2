// Requests to the service that serves this page.

const LIMIT_SECONDS = 15;
let key = "";

// kind: gone (no answer at all), slow (aborted by the time limit), refused (the service said no) or broken (what
// answered is not the service). seconds: after which it may help to ask again.
export class Failure extends Error {
  constructor(kind, message, status = 0, seconds = 0) {
    super(message);
    Object.assign(this, { kind, status, seconds });
  }
}

export function useKey(given) {
  key = given;
}

export const hasKey = () => key !== "";

// The answer to a body, and the milliseconds until it was there. Raises Failure, or an AbortError where `signal` says so.
export async function ask(path, body, signal, seconds = LIMIT_SECONDS) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), seconds * 1000);
  const abort = () => limit.abort();
  signal?.addEventListener("abort", abort);
  const started = performance.now();
  try {
    signal?.throwIfAborted();
    const response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...(key && { "x-api-key": key }) },
      body: JSON.stringify(body),
      signal: limit.signal,
    });
    const text = await response.text();
    return { value: parsed(response, text), ms: performance.now() - started };
  } catch (problem) {
    if (problem instanceof Failure) throw problem;
    signal?.throwIfAborted();
    if (limit.signal.aborted) {
      throw new Failure("slow", `No answer within ${seconds} seconds, so the request was aborted. The server may be busy.`);
    }
    throw new Failure("gone", `The server at ${location.host} does not answer. Is it still running?`, 0, 3);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

function parsed(response, text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Failure("broken", `The server answered with status ${response.status} and no JSON.`, response.status);
  }
  if (response.ok) return value;
  // guard's own formats have `error` as text; what stands before them (a 404, a gateway) has an object.
  const message = typeof value?.error === "string" ? value.error : (value?.error?.message ?? "no message");
  const seconds = Number(response.headers.get("retry-after")) || 0;
  throw new Failure("refused", `${message} (status ${response.status})`, response.status, seconds);
}
