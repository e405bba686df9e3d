// OpenAI's client.

import OpenAI from "openai";
import { drive } from "./driving.mjs";

const connect = (url, key, retries) =>
  new OpenAI({
    baseURL: `${url}/v1`,
    apiKey: key ?? "none",
    defaultHeaders: key ? {} : { Authorization: null },
    maxRetries: retries,
  });

const about = ({ id, name, context_length: length }) => ({ id, name, length });

async function* listing(client) {
  for await (const model of client.models.list()) yield about(model);
}

const retrieve = async (client, id) => about(await client.models.retrieve(id));

await drive(connect, listing, retrieve);
