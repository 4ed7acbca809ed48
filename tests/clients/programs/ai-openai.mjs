// Vercel's AI SDK with its provider for OpenAI.
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";

const provider = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.API_KEY });
const { images } = await generateImage({
  model: provider.image("gpt-image-2"),
  prompt: process.env.PROMPT,
});
console.log(JSON.stringify(images.map((image) => image.base64)));
