// What a web page does with three official clients, unmodified: ask for models, show the answer.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const inPage = { dangerouslyAllowBrowser: true, maxRetries: 0 };

// `told` says what only a client's own dialect tells it of a model: a reply in another one shows.
const clients = {
  openai(url, apiKey) {
    const { models } = new OpenAI({ baseURL: `${url}/v1`, apiKey, ...inPage });
    return {
      list: () => models.list().withResponse(),
      retrieve: (id) => models.retrieve(id),
      told: (model) => `${model.owned_by}: ${model.id}`,
    };
  },
  anthropic(url, apiKey) {
    const { models } = new Anthropic({ baseURL: url, apiKey, ...inPage });
    return {
      list: () => models.list().withResponse(),
      retrieve: (id) => models.retrieve(id),
      told: (model) => model.display_name,
    };
  },
  gemini(url, apiKey) {
    const { models } = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } });
    return {
      async list() {
        const data = await models.list();
        return { data, request_id: data.sdkHttpResponse.headers["x-request-id"] };
      },
      retrieve: (model) => models.get({ model }),
      told: (model) => model.name,
    };
  },
};

async function outcome({ list, retrieve, told }, id) {
  try {
    if (id !== undefined) return { model: told(await retrieve(id)) };
    const { data, request_id } = await list();
    const models = [];
    for await (const model of data) models.push(told(model));
    return { models, request_id };
  } catch (error) {
    const { constructor, message, requestID, status } = error;
    return { error: constructor.name, message, request_id: requestID, status };
  }
}

// List what `key` sees at `url` through a client, or retrieve one model.
window.ask = async (client, url, key, id) => {
  const answer = await outcome(clients[client](url, key), id);
  const line = document.createElement("li");
  line.textContent = `${client}: ${JSON.stringify(answer)}`;
  document.querySelector("ol").append(line);
  return answer;
};

// Read a list with nothing but the browser itself.
window.read = async (url, options) => {
  const response = await fetch(`${url}/v1/models`, options);
  return { status: response.status, body: await response.json() };
};
