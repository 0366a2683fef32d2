// The choice of a policy and a mode: one that the service knows by name, or the YAML of another.

const CUSTOM = " custom"; // no policy is called that

// template: of the controls; which: such as "policy A", for screen readers; changed: called with true while YAML is typed.
export function policyChoice(template, which, changed) {
  const element = template.content.firstElementChild.cloneNode(true);
  const [name, mode, edit, custom, yaml] = [".name", ".mode", ".edit", ".custom", ".yaml"].map((each) => element.querySelector(each));
  let names = [];
  let document = ""; // the YAML of what was chosen last
  name.setAttribute("aria-label", which[0].toUpperCase() + which.slice(1));
  mode.setAttribute("aria-label", `Mode under ${which}`);
  edit.setAttribute("aria-label", `Edit as YAML: ${which}`);
  yaml.setAttribute("aria-label", `YAML of ${which}`);

  function show() {
    const own = name.value === CUSTOM;
    custom.hidden = !own;
    edit.hidden = own;
  }

  function fill() {
    const chosen = name.value;
    const options = names.map((each, index) => new Option(index ? each : `${each} (default)`, index ? each : ""));
    name.replaceChildren(...options, new Option("custom (YAML)", CUSTOM));
    if (chosen && ![...name.options].some((each) => each.value === chosen)) name.append(new Option(chosen, chosen));
    name.value = chosen;
    show();
  }

  function toYaml() {
    if (!yaml.value.trim()) yaml.value = document;
    name.value = CUSTOM;
    show();
  }

  name.addEventListener("change", () => {
    if (name.value === CUSTOM) toYaml();
    show();
    changed(false);
  });
  mode.addEventListener("change", () => changed(false));
  yaml.addEventListener("input", () => changed(true));
  edit.addEventListener("click", () => {
    yaml.value = document;
    toYaml();
    yaml.focus();
    yaml.setSelectionRange(0, 0);
    yaml.scrollTop = 0;
    changed(false);
  });
  fill();

  return {
    element,
    options: () => ({
      ...(name.value === CUSTOM ? { policy_yaml: yaml.value } : name.value && { policy: name.value }),
      ...(mode.value && { mode: mode.value }),
    }),
    // What the service says of the chosen options, and which names it knows.
    informed(info, chosen) {
      if (names.join("\n") !== info.policies.join("\n")) {
        names = info.policies;
        fill();
      }
      if (chosen) document = info.policy.yaml;
    },
  };
}
