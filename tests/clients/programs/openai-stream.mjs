// A stream read with OpenAI's client for Node. It prints the events, and the error if one is raised.
import OpenAI from "openai";

const openai = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const events = [];
let failure = null;
try {
  const stream = await openai.images.generate({
    model: "gpt-image-2",
    prompt: process.env.PROMPT,
    stream: true,
    partial_images: 1,
  });
  for await (const event of stream) {
    events.push([event.type, event.b64_json]);
    if (process.env.LEAVE) break;
  }
} catch (error) {
  failure = [error.constructor.name, error.status ?? null, error.code ?? null];
}
console.log(JSON.stringify({ events, failure }));
