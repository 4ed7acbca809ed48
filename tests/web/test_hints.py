"""Wrong paths and keys in wrong headers: the errors that name the right way."""

from tests.support.raw import PATH, ask, request_bytes
from tests.support.rig import Rig

AZURE = "/openai/deployments/CANARY/images/generations?api-version=2025-04-01-preview"


async def message(rig: Rig, target: str, key: str | None = None, method: str = "POST") -> str:
    answer = await ask(rig.url, request_bytes(key, target=target, method=method))
    assert answer.error == (404, "not_found"), target
    assert b"CANARY" not in answer.body
    assert answer.headers.get("location") is None
    return answer.body.decode()


WRONG = {
    PATH: [
        *("/images/generations", f"{PATH}/", f"/{PATH}", f"{PATH}//", "/v1//images/generations"),
        *("/v1/v1/images/generations", "/V1/Images/Generations", "/api/v1/v1/images/generations"),
        *(AZURE, "/openai/v1/images/generations", f"{PATH}/?a=b", f"{PATH}///?CANARY"),
        "/CANARY/images/generations",
    ],
    "/v1/models": ["/models", "/v1/models/", "/api/v1/models//"],
    "/v1/usage": ["/usage?by=day", "/v1/usage/"],
}


async def test_a_mistyped_address_names_the_right_one(rig: Rig) -> None:
    key = await rig.key()
    for right, targets in WRONG.items():
        for target in targets:
            found = await message(rig, target, key, "POST" if right == PATH else "GET")
            assert f"The right address is {right}:" in found, target


async def test_any_other_path_names_what_is_served(rig: Rig) -> None:
    other = ("/images/edits", "/images/variations", "/chat/completions", "/responses", "/files")
    for target in (
        *(prefix + route for prefix in ("/v1", "/api/v1", "", "/v1/") for route in other),
        *("/", "/v1", "/nothing", "/v1/images", "/v1/embeddings"),
        "/openai/deployments/CANARY/images/edits",
    ):
        found = await message(rig, target)
        assert "serves image generations only: POST /v1/images/generations." in found, target
    assert rig.sandbox.counts.asked == 0


async def test_a_key_in_another_header_is_shown_where_it_belongs(rig: Rig) -> None:
    """Whether the key is valid changes nothing."""
    key = await rig.key()
    texts = {
        (await ask(rig.url, request_bytes(headers=f"{name}: {value}\r\n"))).body
        for name in ("api-key", "X-API-Key")
        for value in (key, "CANARY", "")
    }
    (text,) = texts
    assert b"belongs in the header 'Authorization: Bearer sk-gw-...'" in text
    assert b"invalid_api_key" in text


async def test_all_other_refused_keys_have_one_text(rig: Rig) -> None:
    both = "api-key: CANARY\r\nAuthorization: "
    texts = {
        (await ask(rig.url, request_bytes(headers=headers))).body
        for headers in ("", f"{both}x\r\n", f"{both}\r\n", "Authorization: Bearer sk-gw-x\r\n")
    }
    (text,) = texts
    assert b"A valid gateway key is required" in text
