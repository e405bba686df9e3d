// Anthropic's client.

import Anthropic from "@anthropic-ai/sdk";
import { drive } from "./driving.mjs";

const connect = (url, key, retries) =>
  new Anthropic({ baseURL: url, apiKey: key, maxRetries: retries });

const about = ({ id, display_name: name, max_input_tokens: length }) => ({ id, name, length });

async function* listing(client, page) {
  for await (const model of client.models.list(page ? { limit: page } : {})) yield about(model);
}

const retrieve = async (client, id) => about(await client.models.retrieve(id));

await drive(connect, listing, retrieve);
