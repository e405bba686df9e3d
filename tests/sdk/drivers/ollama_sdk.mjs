// Ollama's client, which has neither retries nor display names; limits it shows of one model.

import { Ollama } from "ollama";
import { drive } from "./driving.mjs";

const connect = (url, key) =>
  new Ollama({ host: url, headers: key ? { Authorization: `Bearer ${key}` } : {} });

async function* listing(client) {
  const { models } = await client.list();
  for (const { model } of models) yield retrieve(client, model);
}

async function retrieve(client, id) {
  const { model_info: info } = await client.show({ model: id });
  return { id, name: null, length: info[`${info["general.architecture"]}.context_length`] };
}

await drive(connect, listing, retrieve);
