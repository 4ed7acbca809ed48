// Vercel's AI SDK with its provider for compatible APIs.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const provider = createOpenAICompatible({
  name: "gateway",
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
});
const { images } = await generateImage({
  model: provider.imageModel("gpt-image-2"),
  prompt: process.env.PROMPT,
});
console.log(JSON.stringify(images.map((image) => image.base64)));
