// The same request for a terminal or a program. A key is the variable GUARD_API_KEY in it (which Python's client reads
// by itself), and never shown.

const MODES = { strict: "MODE_STRICT", balanced: "MODE_BALANCED", permissive: "MODE_PERMISSIVE" };
const literal = (value) => JSON.stringify(value); // a string of JSON is one of Python, too
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`; // for a shell

// server: {url, grpc} of the service, whether it speaks TLS (tls), and whether it wants a key (key).
export const CALLS = {
  curl(messages, options, server) {
    const key = server.key ? ' -H "x-api-key: $GUARD_API_KEY"' : "";
    return `curl ${server.url}/v1/check${key} -d ${quoted(JSON.stringify({ messages, ...options }, null, 2))}`;
  },
  python(messages, { policy, policy_yaml, mode }, server) {
    const own = policy_yaml !== undefined;
    const lines = [`from guard import Conversation, GuardClient, Message`];
    if (own) lines.push(`from guard.policy import from_text`);
    if (server.tls) lines.push(`from guard.serve.client.tls import Tls`);
    lines.push("");
    if (own) lines.push(`policy = from_text(${literal(policy_yaml)}, "policy.yaml")`);
    lines.push(`conversation = Conversation((`);
    for (const { role, content } of messages) lines.push(`    Message(${literal(role)}, ${literal(content)}),`);
    lines.push(`))`);
    lines.push(`with GuardClient(${literal(server.grpc)}${server.tls ? ", tls=Tls()" : ""}) as client:`);
    const named = own ? ", policy=policy" : policy ? `, policy=${literal(policy)}` : "";
    lines.push(`    verdict = client.moderate(conversation${named}${mode ? `, mode=${literal(mode)}` : ""})`);
    lines.push(`print(verdict.outcome.value, verdict.p_unsafe, verdict.flagged)`);
    return lines.join("\n");
  },
  grpc(messages, { policy, policy_yaml, mode }, server) {
    const options = {
      ...(policy && { policy_name: policy }),
      ...(policy_yaml !== undefined && { policy_yaml }),
      ...(mode && { mode: MODES[mode] }),
    };
    const conversation = { messages: messages.map(({ role, content }) => ({ role: `ROLE_${role.toUpperCase()}`, content })) };
    const body = JSON.stringify({ conversation, ...(Object.keys(options).length && { options }) }, null, 2);
    const key = server.key ? ' -H "x-api-key: $GUARD_API_KEY"' : "";
    return `grpcurl${server.tls ? "" : " -plaintext"}${key} -d ${quoted(body)} \\\n  ${server.grpc} guard.v1.ModerationService/Moderate`;
  },
};
