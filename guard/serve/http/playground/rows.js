// Rows: pasted lines, judged in batches, as a table and as CSV.

import { ask } from "./service.js";

const BATCH = 32;
const BATCH_SECONDS = 120;
const BYTES = 3; // of a character in UTF-8, at most two for each half of a pair
const ROUNDS = 10; // of waiting for a full queue
const TABLE_ROWS = 2000;
const TEXT_SHOWN = 300;
const FIELDS = ["messages", "prompt", "response"];

// A row for each line with text: its number, what is shown of it, and what is sent.
export function parse(text) {
  return text.split(/\r\n|\r|\n/).flatMap((line, index) => (line.trim() ? [{ line: index + 1, ...read(line) }] : []));
}

function read(line) {
  if (line.trimStart().startsWith("{")) {
    try {
      const value = JSON.parse(line);
      const sent = Object.fromEntries(FIELDS.filter((each) => each in value).map((each) => [each, value[each]]));
      if (Object.keys(sent).length) return { text: shown(sent, line), sent };
    } catch {
      // a text that begins with a brace
    }
  }
  return { text: line, sent: { prompt: line } };
}

function shown({ messages, prompt, response }, line) {
  const judged = response ?? (Array.isArray(messages) ? messages.at(-1)?.content : prompt);
  return typeof judged === "string" ? judged : line;
}

// Batches that the service takes: no more rows, and no more bytes, than its limits.
function* batches(rows, limits) {
  const most = Math.min(BATCH, limits?.batch_conversations ?? BATCH);
  const bytes = (limits?.request_bytes ?? 1 << 22) / 2; // policy and names have the other half
  let batch = [];
  let size = 0;
  for (const each of rows) {
    const own = BYTES * JSON.stringify(each.sent).length;
    if (batch.length && (batch.length === most || size + own > bytes)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(each);
    size += own;
  }
  if (batch.length) yield batch;
}

// The answers to rows, batch after batch; a full queue is waited for. Raises Failure.
export async function* judge(rows, options, limits, signal) {
  for (const batch of batches(rows, limits)) {
    const body = { conversations: batch.map((each) => each.sent), ...options };
    const { value } = await patiently(() => ask("v1/check", body, signal, BATCH_SECONDS), signal);
    yield batch.map((each, index) => ({ ...each, answer: value.results[index] }));
  }
}

async function patiently(call, signal) {
  for (let round = 1; ; round += 1) {
    try {
      return await call();
    } catch (failure) {
      if (failure.status !== 429 || round === ROUNDS) throw failure;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (failure.seconds || 1)));
      signal.throwIfAborted();
    }
  }
}

// Appends table rows, up to as many as a browser shows at ease.
export function append(body, judged) {
  for (const { line, text, answer } of judged.slice(0, Math.max(0, TABLE_ROWS - body.childElementCount))) {
    const row = document.createElement("tr");
    const excerpt = text.length > TEXT_SHOWN ? `${text.slice(0, TEXT_SHOWN)} …` : text;
    const cells = [line, excerpt, answer.outcome, answer.p_unsafe?.toFixed(3) ?? "", answer.error ?? answer.flagged.join(", ")];
    for (const each of cells) {
      const cell = document.createElement("td");
      cell.textContent = each;
      row.append(cell);
    }
    row.cells[2].className = answer.outcome;
    row.cells[3].className = "number";
    body.append(row);
  }
}

// The rows as CSV (RFC 4180), a column for each category at the end.
export function csv(judged) {
  const codes = [...new Set(judged.flatMap(({ answer }) => Object.keys(answer.categories ?? {})))];
  const head = ["line", "text", "outcome", "p_unsafe", "threshold", "target", "flagged", "error", "policy", "model", ...codes];
  const lines = judged.map(({ line, text, answer: a }) => [
    line, text, a.outcome, a.p_unsafe, a.threshold, a.target, a.flagged?.join(" "), a.error, a.policy, a.model,
    ...codes.map((code) => a.categories?.[code]),
  ]);
  return [head, ...lines].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  if (typeof value === "number") return String(value);
  // Spreadsheets would run a text that begins like a formula.
  const text = /^[=+\-@\t\r]/.test(value ?? "") ? `'${value}` : (value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
