"""LangChain's DallEAPIWrapper."""

import json
import os

from langchain_community.utilities.dalle_image_generator import (  # type: ignore[import-not-found]
    DallEAPIWrapper,
)

dalle = DallEAPIWrapper(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"])
print(json.dumps(dalle.run(os.environ["PROMPT"]).split("\n")))  # noqa: T201 - the test reads it
