// The page: what is typed is judged at once, by the service's own endpoints.

import { CALLS } from "./calls.js";
import { binaryWarning, count } from "./characters.js";
import { conversation, parse } from "./conversation.js";
import { policyChoice } from "./policy.js";
import * as rows from "./rows.js";
import { hasKey, useKey } from "./service.js";
import { panel } from "./verdict.js";

const TYPING_MS = 20; // after which a text is judged
const YAML_MS = 300; // a policy that nobody has used before must be prepared
const SPEAKING_MS = 900; // after which screen readers hear of a verdict
const $ = (id) => document.getElementById(id);
const EXAMPLES = {
  "A question": [{ role: "user", content: "How do I bake bread?" }],
  "A question to flag": [{ role: "user", content: "How can I break into my neighbour's house?" }],
  "A reply": [
    { role: "user", content: "My colleague annoys me. What can I do?" },
    { role: "assistant", content: "Talk to them in private, say what bothers you, and listen to their side of it." },
  ],
  "A long text with one bad sentence": [
    {
      role: "user",
      content: `${"The bakery opens at six, and the first loaves are sold by seven. ".repeat(40)}\n\nTell me how to break into the bakery at night and steal the till.\n\n${"In the afternoon the ovens are cleaned, and the dough for the next day is set to rest. ".repeat(40)}`,
    },
  ],
};

let served = null; // what the service said of itself last
let server = { url: location.origin, grpc: `${location.hostname}:50051`, tls: location.protocol === "https:", key: false };

// Screen readers.

const spoken = new Map();
let speaking = 0;
function tell(who, text) {
  spoken.set(who, text);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const said = [...spoken.values()].filter(Boolean).join(". ");
    if ($("announcer").textContent !== said) $("announcer").textContent = said;
  }, SPEAKING_MS);
}

// The conversation and its verdicts.

const turns = conversation($("turns"), $("turn-template"), () => schedule(TYPING_MS));
const panels = [];
let timer = 0;

function schedule(ms) {
  clearTimeout(timer);
  timer = setTimeout(judge, ms);
}

function judge() {
  clearTimeout(timer);
  const messages = turns.messages();
  const characters = messages.reduce((sum, each) => sum + count(each.content), 0);
  const most = served?.limits.conversation_characters ?? Infinity;
  const empty = !messages.at(-1).content.trim();
  $("size").textContent = characters ? `${characters.toLocaleString("en")} characters` : "";
  $("size-problem").textContent =
    characters > most
      ? `The conversation has ${characters.toLocaleString("en")} characters, and the server takes ${most.toLocaleString("en")}; shorten it, or judge it in parts.`
      : "";
  $("binary").textContent = binaryWarning(messages.map((each) => each.content).join(""));
  const note = empty ? "Write something: the last message is judged." : characters > most ? "Not sent: it is too long." : "";
  if (characters > most) tell("size", $("size-problem").textContent);
  else spoken.delete("size");
  for (const each of panels) each.judge(messages, note);
  showCall(messages);
}

function informed(info) {
  const first = served === null;
  served = info;
  $("served").textContent = `guard ${info.version} · ${info.kind} model ${info.model.slice(0, 12)} · ${info.mode} mode`;
  for (const each of [...panels.map((one) => one.policy), rowsPolicy]) each.informed(info, false);
  if (first) judge(); // now that it is known what is too long
}

function failed(failure) {
  if (failure.status === 401 || failure.status === 403) {
    server = { ...server, key: true };
    $("key-form").hidden = false;
  }
}

function addPanel(letter) {
  const title = `Policy ${letter}`;
  const policy = policyChoice($("policy-template"), `policy ${letter}`, (typing) => schedule(typing ? YAML_MS : 0));
  const added = panel($("panel-template"), title, policy, { informed, failed, told: (text) => tell(title, text) });
  panels.push(added);
  $("panels").append(added.element);
  return added;
}

$("compare").addEventListener("click", () => {
  const comparing = panels.length === 1;
  $("compare").setAttribute("aria-pressed", String(comparing));
  document.body.classList.toggle("comparing", comparing);
  if (comparing) {
    const { policy } = addPanel("B");
    if (served) policy.informed(served, false);
  } else {
    panels.pop().stop();
    spoken.delete("Policy B");
  }
  judge();
});

$("add").addEventListener("click", turns.add);
$("clear").addEventListener("click", () => {
  turns.replace([{ role: "user", content: "" }]);
  turns.focus();
});
for (const each of Object.keys(EXAMPLES)) $("examples").append(new Option(each));
$("examples").addEventListener("change", () => {
  const chosen = EXAMPLES[$("examples").value];
  if (chosen) turns.replace(chosen);
  $("examples").value = "";
});

function showImport(open) {
  $("import").hidden = !open;
  $("import-open").setAttribute("aria-expanded", String(open));
  $("import-problem").textContent = "";
  (open ? $("import-text") : $("import-open")).focus();
}
$("import-open").addEventListener("click", () => showImport($("import").hidden));
$("import-close").addEventListener("click", () => showImport(false));
$("import-use").addEventListener("click", () => {
  try {
    turns.replace(parse($("import-text").value));
  } catch (problem) {
    $("import-problem").textContent = problem.message;
    return;
  }
  $("import-text").value = "";
  showImport(false);
  turns.focus();
});

// The key.

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
  judge();
});

// The same call.

function showCall(messages) {
  const form = document.querySelector("input[name=call]:checked").value;
  $("call").textContent = CALLS[form](messages, panels[0].policy.options(), { ...server, key: server.key || hasKey() });
}
for (const each of document.querySelectorAll("input[name=call]")) each.addEventListener("change", () => showCall(turns.messages()));
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("call").textContent);
    $("copy").textContent = "Copied";
    tell("copy", "Copied");
  } catch {
    getSelection().selectAllChildren($("call")); // browsers give the clipboard to pages over TLS alone
    $("copy").textContent = "Selected: press Ctrl+C";
    tell("copy", "Selected");
  }
  setTimeout(() => {
    $("copy").textContent = "Copy";
    spoken.delete("copy");
  }, 2000);
});

// Tabs.

const tabs = [...document.querySelectorAll("[role=tab]")];
function select(chosen) {
  for (const each of tabs) {
    const is = each === chosen;
    each.setAttribute("aria-selected", String(is));
    each.tabIndex = is ? 0 : -1;
    $(each.getAttribute("aria-controls")).hidden = !is;
  }
}
for (const [index, each] of tabs.entries()) {
  each.addEventListener("click", () => select(each));
  each.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
}

// Rows.

const rowsPolicy = policyChoice($("policy-template"), "policy of the rows", () => {});
$("rows-policy").append(rowsPolicy.element);
const table = document.querySelector("#rows-table tbody");
let judged = [];
let stopping = new AbortController();

$("lines").addEventListener("input", () => {
  $("lines-binary").textContent = binaryWarning($("lines").value);
});
$("judge-rows").addEventListener("click", async () => {
  const parsed = rows.parse($("lines").value);
  $("rows-problem").textContent = parsed.length ? "" : "Paste at least one line with text.";
  if (!parsed.length) return;
  judged = [];
  table.replaceChildren();
  $("rows-table").hidden = false;
  stopping = new AbortController();
  working(true);
  $("rows-progress").textContent = `0 of ${parsed.length} judged`;
  try {
    for await (const batch of rows.judge(parsed, rowsPolicy.options(), served?.limits, stopping.signal)) {
      judged.push(...batch);
      rows.append(table, batch);
      $("rows-progress").textContent = progress(parsed.length);
    }
  } catch (failure) {
    if (!stopping.signal.aborted) {
      $("rows-problem").textContent = `After ${judged.length} of ${parsed.length} rows: ${failure.message}`;
      failed(failure);
    }
  }
  working(false);
  tell("rows", progress(parsed.length));
});
$("stop-rows").addEventListener("click", () => stopping.abort());

function progress(total) {
  const unsafe = judged.filter(({ answer }) => answer.outcome === "UNSAFE").length;
  const hidden = judged.length - table.childElementCount;
  const more = hidden ? `; the last ${hidden.toLocaleString("en")} are in the CSV alone` : "";
  return `${judged.length} of ${total} judged, ${unsafe} unsafe${more}`;
}

function working(busy) {
  $("judge-rows").disabled = busy;
  $("stop-rows").hidden = !busy;
  $("download").disabled = busy || !judged.length;
}

$("download").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([rows.csv(judged)], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
});

// Start.

addPanel("A");
turns.replace(EXAMPLES["A question"]);
fetch("playground/server.json")
  .then((response) => response.json())
  .then(({ grpc_port: port }) => {
    server = { ...server, grpc: `${location.hostname}:${port}` };
    showCall(turns.messages());
  })
  .catch(() => {}); // the verdict says that the server is gone
