// The conversation: turns that can be edited, added and removed, and read from a text that was pasted.

const ROLES = ["user", "assistant", "system", "tool"];
const LINE = /^\s*(user|human|assistant|ai|system|tool)\s*:\s*/i;
const ALIASES = { human: "user", ai: "assistant", developer: "system", function: "tool" };

// list: the element of the turns; template: of one; changed: called after each change.
export function conversation(list, template, changed) {
  const fields = (item) => ({
    role: item.querySelector(".role"),
    content: item.querySelector("textarea"),
    remove: item.querySelector(".remove"),
  });

  function name() {
    [...list.children].forEach((item, index) => {
      const { role, content, remove } = fields(item);
      const which = `turn ${index + 1}`;
      role.setAttribute("aria-label", `Role of ${which}`);
      content.setAttribute("aria-label", `Text of ${which}${index + 1 === list.children.length ? ", which is judged" : ""}`);
      remove.querySelector(".hidden-text").textContent = `Remove ${which}`;
      remove.hidden = list.children.length === 1;
    });
  }

  function append({ role, content }) {
    const item = template.content.firstElementChild.cloneNode(true);
    const its = fields(item);
    its.role.value = role;
    its.content.value = content;
    its.role.addEventListener("change", changed);
    its.content.addEventListener("input", changed);
    its.remove.addEventListener("click", () => {
      const near = item.nextElementSibling ?? item.previousElementSibling;
      item.remove();
      name();
      fields(near).content.focus();
      changed();
    });
    list.append(item);
    return its.content;
  }

  function replace(messages) {
    list.replaceChildren();
    for (const each of messages) append(each);
    name();
    changed();
  }

  function add() {
    const last = fields(list.lastElementChild).role.value;
    const content = append({ role: last === "user" ? "assistant" : "user", content: "" });
    name();
    content.focus();
    changed();
  }

  const messages = () =>
    [...list.children].map((item) => {
      const { role, content } = fields(item);
      return { role: role.value, content: content.value };
    });

  return { messages, replace, add, focus: () => fields(list.lastElementChild).content.focus() };
}

// The messages of a pasted text: JSON, or lines that begin with a role. Raises an Error that says what is wrong.
export function parse(text) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error("Paste a conversation first.");
  if (/^[[{]/.test(trimmed)) {
    let value;
    try {
      value = JSON.parse(trimmed);
    } catch (problem) {
      throw new Error(`This begins like JSON and is none: ${problem.message}`);
    }
    return ofJson(value);
  }
  const messages = [];
  for (const line of trimmed.split(/\r?\n/)) {
    const start = LINE.exec(line);
    if (start) {
      const role = start[1].toLowerCase();
      messages.push({ role: ALIASES[role] ?? role, content: line.slice(start[0].length) });
    } else if (messages.length) messages.at(-1).content += `\n${line}`;
    else messages.push({ role: "user", content: line });
  }
  return messages.map(({ role, content }) => ({ role, content: content.trim() }));
}

function ofJson(value) {
  const list = Array.isArray(value) ? value : value.messages;
  if (list === undefined) {
    const { prompt, response } = value;
    if (typeof prompt !== "string" && typeof response !== "string") throw new Error("The object has no messages, prompt or response.");
    const messages = [{ role: "user", content: prompt ?? "" }];
    if (typeof response === "string") messages.push({ role: "assistant", content: response });
    return messages;
  }
  if (!Array.isArray(list) || !list.length) throw new Error("messages must be a list with at least one message.");
  return list.map((each, index) => {
    const role = ALIASES[each?.role] ?? each?.role;
    if (!ROLES.includes(role)) throw new Error(`messages[${index}].role must be one of ${ROLES.join(", ")}.`);
    if (typeof each.content !== "string" || each.tool_calls) {
      throw new Error(`messages[${index}] is not a plain text, and only those can be edited here; POST /v1/check takes it as it is.`);
    }
    return { role, content: each.content };
  });
}
