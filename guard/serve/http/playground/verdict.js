// A panel: a policy, and the verdict on the conversation under it.

import { count, indexOf } from "./characters.js";
import { ask } from "./service.js";

const SHOWN = 500; // characters before and after the worst window
const WINDOW_SHOWN = 4000;
const STALE_MS = 250;

// hooks: informed(info) of what the service says of itself, failed(Failure), told(text) of a new verdict or error.
export function panel(template, title, policy, hooks) {
  const element = template.content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(name);
  const [problem, again, waiting, verdict] = [".problem", ".again", ".waiting", ".verdict"].map(part);
  element.setAttribute("aria-label", title);
  part(".worst .text").setAttribute("aria-label", `${title}: the judged message, its worst window marked`);
  part("h3").textContent = title;
  part(".policy-place").replaceWith(policy.element);
  again.querySelector("button").addEventListener("click", () => judge(last.messages, last.note));
  let last = { messages: [], note: "" };
  let running = new AbortController();
  let known = { key: "", info: null }; // what the service said of the options of the last request
  let retry = 0;

  async function informed(options, signal) {
    const key = JSON.stringify(options);
    if (known.key !== key) {
      const { value } = await ask("v1/info", options, signal);
      known = { key, info: value };
      policy.informed(value, true);
      hooks.informed(value);
    }
    return known.info;
  }

  // note: why the messages are not sent; empty where they are.
  async function judge(messages, note) {
    last = { messages, note };
    running.abort();
    clearTimeout(retry);
    const { signal } = (running = new AbortController());
    const stale = setTimeout(() => element.classList.add("stale"), STALE_MS);
    element.setAttribute("aria-busy", "true");
    const options = policy.options();
    try {
      const asked = note ? null : ask("v1/check", { messages, ...options, timings: true }, signal);
      asked?.catch(() => {}); // it is awaited below, unless the other fails first
      let info = await informed(options, signal);
      const answer = await asked;
      if (answer && (answer.value.policy !== info.policy.digest || answer.value.model !== info.model)) {
        known = { key: "", info: null }; // another model or policy was loaded meanwhile
        info = await informed(options, signal);
      }
      signal.throwIfAborted();
      problem.textContent = "";
      again.hidden = true;
      waiting.textContent = note;
      waiting.hidden = !note;
      verdict.hidden = Boolean(note);
      if (answer) {
        show(answer.value, info, messages.at(-1).content, answer.ms);
        hooks.told(`${title}: ${summary(answer.value, info)}`);
      } else hooks.told("");
    } catch (failure) {
      if (signal.aborted) {
        clearTimeout(stale);
        return; // a later request shows its answer
      }
      known = { key: "", info: null };
      problem.textContent = failure.message;
      again.hidden = failure.kind === "refused" && failure.seconds === 0;
      waiting.hidden = true;
      verdict.hidden = true;
      hooks.told(`${title}: ${failure.message}`);
      hooks.failed(failure);
      if (failure.seconds) retry = setTimeout(() => judge(last.messages, last.note), failure.seconds * 1000);
    }
    clearTimeout(stale);
    element.classList.remove("stale");
    element.removeAttribute("aria-busy");
  }

  function show(given, info, text, ms) {
    const outcome = part(".outcome");
    outcome.textContent = given.outcome;
    outcome.className = `outcome ${given.outcome}`;
    part(".target").textContent = `${given.target}: ${given.p_unsafe.toFixed(3)}, unsafe from ${given.threshold.toFixed(2)}`;
    const names = new Map(info.policy.categories.map((each) => [each.code, each]));
    const thresholds = info.thresholds[given.target]?.categories ?? {};
    part(".notes").textContent = notes(given, thresholds).join("\n");
    const monitored = new Set(given.monitor?.codes);
    part(".bars tbody").replaceChildren(
      bar({ name: "unsafe", p: given.p_unsafe, threshold: given.threshold, flagged: given.outcome === "UNSAFE", whole: true }),
      ...Object.entries(given.categories).map(([code, p]) =>
        bar({
          code,
          name: names.get(code)?.name ?? "",
          definition: names.get(code)?.definition ?? "",
          p,
          threshold: thresholds[code],
          flagged: given.flagged.includes(code),
          watched: monitored.has(code),
        }),
      ),
    );
    showWorst(part(".worst"), text, given.coverage.worst);
    part(".facts").replaceChildren(...facts(given, ms).flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  }

  function stop() {
    running.abort();
    clearTimeout(retry);
    element.remove();
  }

  return { element, judge, stop, policy };
}

function summary(given, info) {
  const names = new Map(info.policy.categories.map((each) => [each.code, each.name]));
  const flagged = given.flagged.map((code) => `${code} ${names.get(code) ?? ""}`).join(", ");
  return `${given.outcome}, probability ${given.p_unsafe.toFixed(2)}${flagged && `, flagged ${flagged}`}`;
}

function notes(given, thresholds) {
  const said = [];
  if (given.flagged.length && !given.flagged.some((code) => given.categories[code] >= thresholds[code])) {
    said.push("No category reaches its own threshold: the likeliest one is named.");
  }
  if (given.unjudged.length) said.push(`Not judged: ${given.unjudged.join(", ")}`);
  if (given.monitor) {
    const would = given.monitor.flagged.length ? `, flagged ${given.monitor.flagged.join(", ")}` : "";
    said.push(`Watched and not enforced: ${given.monitor.codes.join(", ")}. If all were enforced: ${given.monitor.outcome}${would}.`);
  }
  return said;
}

function facts(given, ms) {
  const { tokenize_ms, queue_ms, infer_ms } = given.timings;
  const { tokens_seen, tokens_total, windows } = given.coverage;
  const rows = [
    ["Time", `${ms.toFixed(0)} ms round trip: ${tokenize_ms.toFixed(1)} tokenize, ${queue_ms.toFixed(1)} queue, ${infer_ms.toFixed(1)} infer`],
    ["Coverage", `${tokens_seen} of ${tokens_total} tokens, ${windows} window${windows === 1 ? "" : "s"}`],
  ];
  if (given.language) {
    const { code, probability, supported } = given.language;
    rows.push(["Language", `${code}, probability ${probability.toFixed(2)}${supported ? "" : "; the model was not trained for it"}`]);
  }
  if (given.p_refusal !== null) rows.push(["Refusal", `probability ${given.p_refusal.toFixed(3)}`]);
  if (given.decided_by) rows.push(["Decided by", given.decided_by]);
  rows.push(["Policy", given.policy.slice(0, 12)], ["Model", given.model.slice(0, 12)]);
  return rows;
}

function bar({ code, name, definition, p, threshold, flagged, watched, whole }) {
  const row = document.createElement("tr");
  row.classList.toggle("flagged", flagged);
  row.classList.toggle("whole", Boolean(whole));
  const head = made("th", "");
  head.scope = "row";
  head.title = definition ?? "";
  if (code) head.append(made("span", code, code.length > 8 ? "code long" : "code"));
  head.append(name);
  if (flagged && !whole) head.append(made("span", "flagged", "tag"));
  if (watched) head.append(made("span", "watched", "tag"));
  const track = made("div", "", "bar");
  const filled = made("div", "", "filled");
  filled.style.width = `${100 * p}%`;
  track.append(filled);
  if (threshold !== undefined) {
    const mark = made("div", "", "threshold");
    mark.style.left = `${100 * threshold}%`;
    track.append(mark);
  }
  const cell = made("td", "", "bar-cell");
  cell.setAttribute("aria-hidden", "true");
  cell.append(track);
  row.append(head, cell, made("td", p.toFixed(3), "number"), made("td", threshold?.toFixed(2) ?? "", "number quiet"));
  return row;
}

function showWorst(place, text, [start, end]) {
  const [from, to] = [indexOf(text, start), indexOf(text, end)];
  const whole = from === 0 && to === text.length;
  const shown = place.querySelector(".text");
  place.hidden = to <= from;
  shown.hidden = whole;
  place.querySelector(".where").textContent = whole
    ? "the whole message"
    : `characters ${start.toLocaleString("en")} to ${end.toLocaleString("en")} of ${count(text).toLocaleString("en")}`;
  if (whole || place.hidden) return;
  const before = text.slice(Math.max(0, from - SHOWN), from);
  const after = text.slice(to, to + SHOWN);
  const inside = text.slice(from, to);
  const mark = made("mark", inside.length > WINDOW_SHOWN ? `${inside.slice(0, WINDOW_SHOWN / 2)} … ${inside.slice(-WINDOW_SHOWN / 2)}` : inside);
  shown.replaceChildren(from > SHOWN ? "… " : "", before, mark, after, to + SHOWN < text.length ? " …" : "");
  shown.scrollTop = mark.offsetTop - shown.offsetTop - 40;
}

function made(tag, text, names) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (names) element.className = names;
  return element;
}
