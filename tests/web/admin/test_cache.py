"""The cache in the admin API: its state, look-ups and purges."""

from pathlib import Path

from tests.support.rig import PROMPT, Rig, running_rig

RED = {"prompt": PROMPT}


async def kept(rig: Rig, team: str = "red") -> bool:
    body = {"team": team, "request": RED}
    got = await rig.ask_admin("POST", "cache/lookup", json=body)
    assert got.status == 200
    found: bool = got.json["kept"]
    return found


async def test_the_state_has_hits_misses_and_sizes(rig: Rig) -> None:
    key = await rig.key("red")
    for _ in range(3):
        assert (await rig.generate(key)).status == 200
    got = (await rig.ask_admin("GET", "cache")).json
    memory = got["memory"]
    assert (memory["hits"], memory["misses"], memory["entries"]) == (2, 1, 1)
    assert 0 < memory["bytes"] < got["max_bytes"]
    assert memory["evictions"] == {"expired": 0, "replaced": 0, "size": 0}
    assert got["redis"] is None


async def test_a_look_up_has_age_and_size_and_no_image(rig: Rig) -> None:
    key = await rig.key("red")
    await rig.key("blue")
    body = {"team": "red", "request": {**RED, "n": 1, "size": "1024x1024"}}
    assert not await kept(rig)
    bought = await rig.generate(key)
    got = await rig.ask_admin("POST", "cache/lookup", json=body)
    assert (got.json["kept"], got.json["images"], got.json["tier"]) == (True, 1, "memory")
    assert got.json["bytes"] == len(bought.body)
    assert got.json["age_seconds"] < 60
    assert not await kept(rig, "blue")


async def test_a_purge_of_a_team_leaves_the_others(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    for key in (red, blue, red, blue):
        await rig.generate(key)
    got = await rig.ask_admin("POST", "cache/purge", json={"team": "red"})
    assert got.json == {"purged": True, "team": "red", "fingerprint": None}
    assert (await kept(rig), await kept(rig, "blue")) == (False, True)
    top = (await rig.ask_admin("GET", "cache/top")).json["entries"]
    assert [entry["team"] for entry in top] == ["blue"]
    assert (await rig.generate(red)).headers["Cache-Status"] == "gateway; fwd=miss; stored"
    assert (await rig.generate(red)).headers["Cache-Status"] == "gateway; hit"
    assert (await rig.generate(blue)).headers["Cache-Status"] == "gateway; hit"


async def test_purged_answers_do_not_come_back_with_a_new_team(rig: Rig) -> None:
    await rig.generate(await rig.key("red"))
    assert (await rig.ask_admin("POST", "cache/purge", json={"team": "red"})).status == 200
    for method, path, body in (
        ("PUT", "teams/red", {"max_n": 2}),
        ("DELETE", "teams/red", None),
        ("POST", "teams", {"team": "red"}),
    ):
        assert (await rig.ask_admin(method, path, json=body)).status < 300
    assert not await kept(rig)


async def test_a_new_team_finds_no_answers_of_a_deleted_one_of_its_name(rig: Rig) -> None:
    await rig.generate(await rig.key("red"))
    assert (await rig.ask_admin("DELETE", "teams/red")).status < 300
    assert (await rig.ask_admin("POST", "teams", json={"team": "red"})).status < 300
    again = await rig.generate(await rig.further_key("red"))
    assert again.headers["Cache-Status"].endswith("stored")
    assert rig.sandbox.counts.asked == 2


async def test_one_answer_is_purged_by_its_fingerprint(rig: Rig) -> None:
    key = await rig.key("red")
    for prompt in (PROMPT, "another"):
        await rig.generate(key, prompt)
    body = {"team": "red", "request": RED}
    found = (await rig.ask_admin("POST", "cache/lookup", json=body)).json
    wanted = {"fingerprint": found["fingerprint"]}
    got = await rig.ask_admin("POST", "cache/purge", json=wanted)
    assert got.json == {"purged": True, "team": None, **wanted}
    assert not await kept(rig)
    assert (await rig.generate(key, "another")).headers["Cache-Status"] == "gateway; hit"
    (left,) = (await rig.ask_admin("GET", "cache/top")).json["entries"]
    assert left["fingerprint"] != found["fingerprint"]
    (change, *_) = (await rig.ask_admin("GET", "audit")).json["changes"]
    assert (change["action"], change["after"]) == ("cache.purge", wanted)
    again = await rig.ask_admin("POST", "cache/purge", json=wanted)
    assert again.json["purged"] is False


async def test_a_shared_cache_is_purged_as_a_whole(tmp_path: Path) -> None:
    async with running_rig(tmp_path, CACHE_SCOPE="shared") as rig:
        await rig.generate(await rig.key("red"))
        got = await rig.ask_admin("POST", "cache/purge", json={"team": "red"})
        assert got.error == (409, "invalid_request_error", "conflict")
        assert (await rig.ask_admin("POST", "cache/purge", json={"all": True})).status == 200
        assert not await kept(rig)
        assert (await rig.ask_admin("GET", "cache")).json["memory"]["entries"] == 0
        (change,) = (await rig.ask_admin("GET", "audit")).json["changes"]
    assert (change["action"], change["team"]) == ("cache.purge", None)
    assert change["after"] == {"all": True}
