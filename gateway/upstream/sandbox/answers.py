"""A good answer: pictures, what they are, and the tokens they took."""

import base64
from typing import Any

from msgspec import json

from gateway.upstream.sandbox.pictures import DOT, Pictures, picture_spec
from gateway.upstream.sandbox.requests import Asked
from gateway.upstream.sandbox.state import SandboxSettings

SQUARE_TOKENS = {"low": 196, "medium": 1_756, "high": 7_024}
"""Tokens of an image of 1024x1024, by quality. At $30 a million that is just below what such an
image costs by the price table."""


async def answer_body(
    asked: Asked, images: int, settings: SandboxSettings, pictures: Pictures, origin: str, now: int
) -> bytes:
    """The JSON of an answer with so many images. `origin` begins the URLs; `now` in seconds."""
    data = []
    for seed in range(images):
        spec = picture_spec(asked.prompt, asked.width, asked.height, seed)
        image = {}
        if settings.answer != "url":
            png = await pictures.draw(spec) if settings.picture == "drawn" else DOT
            image["b64_json"] = base64.b64encode(png).decode()
        if settings.answer != "b64_json":
            image["url"] = origin + pictures.link(spec, settings.url_ttl)
        data.append(image)
    answer = {
        "created": now,
        "background": asked.background,
        "data": data,
        "output_format": asked.output_format,
        "quality": asked.quality,
        "size": f"{asked.width}x{asked.height}",
        "usage": usage(asked, images),
    }
    return json.encode(answer)


def usage(asked: Asked, images: int) -> dict[str, Any]:
    """Plausible tokens: a quarter of the prompt's bytes, and by the square of the shorter edge.

    Both stay below what a price table with the same prices asks for such an image.
    """
    text = max(1, len(asked.prompt.encode()) // 4)
    edge = min(asked.width, asked.height)
    made = images * (SQUARE_TOKENS[asked.quality] * edge * edge // 1024**2)
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
        "total_tokens": text + made,
    }
