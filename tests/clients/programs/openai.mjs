// OpenAI's client for Node.
import OpenAI from "openai";

const openai = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const { data } = await openai.images.generate({ model: "gpt-image-2", prompt: process.env.PROMPT });
console.log(JSON.stringify(data.map((image) => image.b64_json ?? image.url)));
