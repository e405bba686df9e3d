// Google's client.

import { GoogleGenAI } from "@google/genai";
import { drive } from "./driving.mjs";

const connect = (url, key, retries) =>
  new GoogleGenAI({
    apiKey: key ?? "none",
    httpOptions: {
      baseUrl: url,
      headers: key ? {} : { "x-goog-api-key": "" },
      retryOptions: { attempts: retries + 1 },
    },
  });

const about = ({ name, displayName, inputTokenLimit }) => ({
  id: name.replace(/^models\//, ""),
  name: displayName,
  length: inputTokenLimit ?? null,
});

async function* listing(client, page) {
  const config = page ? { pageSize: page } : {};
  for await (const model of await client.models.list({ config })) yield about(model);
}

const retrieve = async (client, id) => about(await client.models.get({ model: id }));

await drive(connect, listing, retrieve);
