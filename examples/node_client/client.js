// A client of `guard serve` in Node, made from the .proto files alone: one call, a batch, a reply that is still written,
// and a reward. It prints a line of JSON for each.
//
//     npm install
//     node client.js HOST:PORT FOLDER...
//
// The folders are those in which the protos are looked up: `proto` of this repository, and one with
// google/rpc/status.proto (github.com/googleapis/googleapis, or the Python package googleapis-common-protos).
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [target, ...includeDirs] = process.argv.slice(2);
const files = ["guard/v1/moderation.proto", "guard/v1/reward.proto"];
const { guard } = grpc.loadPackageDefinition(
  loader.loadSync(files, { includeDirs, keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true }),
);
const credentials = grpc.credentials.createInsecure();
const moderation = new guard.v1.ModerationService(target, credentials);
const rewards = new guard.v1.RewardService(target, credentials);

const SECONDS = 20;
const PROMPT = { role: "ROLE_USER", content: "How do I boil an egg?" };
const reply = (content) => ({ messages: [PROMPT, { role: "ROLE_ASSISTANT", content }] });
const tell = (what, told) => console.log(JSON.stringify({ what, ...told }));

// The response of a call with one response, or its error.
function ask(client, method, request) {
  const deadline = new Date(Date.now() + SECONDS * 1000);
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// The responses of a reply that comes in pieces.
function stream(pieces) {
  return new Promise((resolve, reject) => {
    const responses = [];
    const call = moderation.StreamModerate({ deadline: new Date(Date.now() + SECONDS * 1000) });
    call.on("data", (response) => {
      responses.push(response);
      if (response.final || response.stopped) call.end();
    });
    call.on("error", reject);
    call.on("end", () => resolve(responses));
    call.write({ start: { context: [PROMPT] } });
    for (const text of pieces) call.write({ text });
    call.write({ end: {} });
  });
}

async function main() {
  const { verdict } = await ask(moderation, "Moderate", { conversation: reply("Eight minutes.") });
  tell("moderate", { outcome: verdict.outcome, p_unsafe: verdict.p_unsafe });

  const conversations = [reply("Eight minutes."), reply("violates:S1"), reply("")];
  const { items } = await ask(moderation, "BatchModerate", { conversations });
  tell("batch", { results: items.map(({ result, ...item }) => (result === "error" ? item.error.code : item.verdict.outcome)) });

  const pieces = ["Put it into boi", "ling water. Wait for ", "eight minutes."];
  const responses = await stream(pieces);
  const last = responses[responses.length - 1];
  const released = responses.map((response) => response.released).join("");
  tell("stream", { released, final: last.final, outcome: last.verdict.outcome });

  const { reward } = await ask(rewards, "Score", { candidate: { prompt: [PROMPT], response: "Eight minutes." } });
  const components = Object.fromEntries(reward.components.map(({ name, score }) => [name, score && score.reward]));
  tell("reward", { total: reward.total, components });

  try {
    await ask(moderation, "Moderate", { conversation: { messages: [] } });
  } catch (error) {
    tell("error", { code: grpc.status[error.code], details: error.details });
  }
}

main()
  .catch((error) => {
    console.error(String(error));
    process.exitCode = 1;
  })
  .finally(() => {
    moderation.close();
    rewards.close();
  });
