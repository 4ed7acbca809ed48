"""The headers that go to the upstream."""

from gateway import __version__


def upstream_headers(api_key: str, request_id: str) -> dict[str, str]:
    """All headers that go upstream: nothing of the client's but its request id.

    No compression: images are compressed already, and a response can be bounded as it arrives.
    """
    return {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"image-gateway/{__version__}",
        "X-Request-Id": request_id,
    }
