"""The headers that go to the upstream."""

from gateway import __version__


def upstream_headers(api_key: str, request_id: str) -> dict[str, str]:
    """Return all headers of an upstream request. Of the client's there is only the request id.

    They ask for no compression: images are compressed already, and the size of an uncompressed
    response can be checked as it arrives.
    """
    return {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"image-gateway/{__version__}",
        "X-Request-Id": request_id,
    }
