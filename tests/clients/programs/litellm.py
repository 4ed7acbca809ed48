"""LiteLLM's SDK."""

import json
import os

import litellm  # type: ignore[import-not-found]

response = litellm.image_generation(
    model="openai/gpt-image-2",
    prompt=os.environ["PROMPT"],
    api_base=os.environ["BASE_URL"],
    api_key=os.environ["API_KEY"],
)
pictures = [image.b64_json or image.url for image in response.data]
print(json.dumps(pictures))  # noqa: T201 - the test reads it
