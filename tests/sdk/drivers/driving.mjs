// What the drivers of the JavaScript clients share: the steps and outcomes of driving.py.

import { text } from "node:stream/consumers";

/** Take each step with a new client, and print what came of them. */
export async function drive(connect, listing, retrieve) {
  const outcomes = [];
  for (const step of JSON.parse(await text(process.stdin))) {
    outcomes.push(await outcome(step, connect, listing, retrieve));
  }
  console.log(JSON.stringify(outcomes));
}

async function outcome(step, connect, listing, retrieve) {
  const client = connect(step.url, step.key, step.retries);
  try {
    if ("id" in step) return { model: await retrieve(client, step.id) };
    const models = [];
    for await (const model of listing(client, step.page)) models.push(model);
    return { models };
  } catch (error) {
    const { constructor, message, requestID } = error;
    return { error: constructor.name, says: message, request_id: requestID };
  }
}
