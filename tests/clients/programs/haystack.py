"""Haystack's OpenAIImageGenerator."""

import json
import os

from haystack.components.generators import (  # type: ignore[import-not-found]
    OpenAIImageGenerator,
)
from haystack.utils import Secret  # type: ignore[import-not-found]

generator = OpenAIImageGenerator(
    api_base_url=os.environ["BASE_URL"], api_key=Secret.from_env_var("API_KEY")
)
print(json.dumps(generator.run(os.environ["PROMPT"])["images"]))  # noqa: T201 - the test reads it
