"""teams.toml: policies and limits, and all of its faults at once."""

import re
from pathlib import Path

import pytest

from gateway.config.models import GPT_IMAGE_2, Model, PriceTable, SizeRules
from gateway.config.teams_file import read_teams
from gateway.core.faults import ConfigError
from gateway.core.model import Limits, Team

SHIPPED = (Path(__file__).parents[2] / "config" / "teams.toml").read_text(encoding="utf-8")
FIXED = Model(
    name="fixed",
    aliases=("square",),
    prices=PriceTable(flat=1),
    sizes=SizeRules(auto=False, allowed=("1024x1024",)),
)
MODELS = {"gpt-image-2": GPT_IMAGE_2, "fixed": FIXED}


def teams(text: str) -> list[Team]:
    return read_teams(text, models=MODELS)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        teams(text)
    return [fault.removeprefix("config/teams.toml: ") for fault in map(str, caught.value.faults)]


@pytest.mark.parametrize("text", ["", "[teams]"])
def test_no_teams(text: str) -> None:
    assert teams(text) == []


def test_a_team_without_options_may_use_everything() -> None:
    assert teams("[teams.design]") == [Team(name="design")]


def test_every_option() -> None:
    text = """
        [teams."Design-1.a_b"]
        models = ["fixed", "gpt-image-2"]
        sizes = ["1024x1024", "auto", "1536x1024"]
        qualities = ["low", "medium", "high", "auto"]
        max_n = 2
        cache = false
        [teams."Design-1.a_b".limits]
        images_per_day = 0
        images_per_month = 1_000
        cost_per_day_usd = 0.25
        cost_per_month_usd = "1000.000001"
        requests_per_minute = 60
        concurrent_requests = 5
    """
    assert teams(text) == [
        Team(
            name="Design-1.a_b",
            models=("fixed", "gpt-image-2"),
            sizes=("1024x1024", "auto", "1536x1024"),
            qualities=("low", "medium", "high", "auto"),
            max_n=2,
            cache=False,
            limits=Limits(
                images_per_day=0,
                images_per_month=1_000,
                cost_per_day=250_000,
                cost_per_month=1_000_000_001,
                requests_per_minute=60,
                concurrent_requests=5,
            ),
        )
    ]


def test_order_is_kept() -> None:
    assert [team.name for team in teams("[teams.b]\n[teams.a]\n[teams.c]")] == ["b", "a", "c"]


COUNT = "must be an integer from 0 to 1000000000000"
MONEY = "must be dollars, 0 or more, with at most six decimals, such as 0.05"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("models = 'gpt-image-2'", "[teams.a] models: must be a list that is not empty"),
        ("models = []", "[teams.a] models: must be a list that is not empty, each item text"),
        (
            "models = ['fixed', 'gpt-image-1']",
            "[teams.a] models: item 2 is not a configured model; did you mean 'gpt-image-2'?",
        ),
        (
            "models = ['gpt-image-2', 'square']",
            "[teams.a] models: item 2 is not a configured model; it is an alias of fixed",
        ),
        ("models = ['canary']", "[teams.a] models: item 1 is not a configured model"),
        ("sizes = ['512x512']", "[teams.a] sizes: item 1: none of the team's models"),
        ("sizes = ['auto', 'canary']", "[teams.a] sizes: item 2: none of the team's models"),
        ("sizes = ['auto']\nmodels = ['fixed']", "[teams.a] sizes: item 1: none of the team's"),
        ("sizes = []", "[teams.a] sizes: must be a list that is not empty"),
        ("sizes = [1024]", "[teams.a] sizes: must be a list that is not empty, each item text"),
        ("qualities = ['hd']", "[teams.a] qualities: must be a list that is not empty, each item"),
        ("max_n = 0", "[teams.a] max_n: must be an integer from 1 to 1000"),
        ("max_n = true", "[teams.a] max_n: must be an integer from 1 to 1000"),
        ("cache = 1", "[teams.a] cache: must be true or false"),
        ("limit.x = 1", "[teams.a] limit: no such option; did you mean 'limits'?"),
        ("limits = 1", "[teams.a] limits: must be a table"),
        ("limits.images_per_day = -1", f"[teams.a.limits] images_per_day: {COUNT}"),
        ("limits.cost_per_day_usd = 'canary'", f"[teams.a.limits] cost_per_day_usd: {MONEY}"),
        (
            "limits.cost_per_day = 1",
            "[teams.a.limits] cost_per_day: no such option; did you mean 'cost_per_day_usd'?",
        ),
    ],
)
def test_wrong_options(text: str, fault: str) -> None:
    (found,) = faults(f"[teams.a]\n{text}")
    assert found.startswith(fault)
    assert "canary" not in found


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a\\n", "ü", "a" * 65])
def test_impossible_names(name: str) -> None:
    (fault,) = faults(f'[teams."{name}"]')
    assert "a team's name must have 1 to 64 letters, digits and . _ -" in fault
    assert fault.isascii()


@pytest.mark.parametrize("name", ["a", "7", "A.b_c-d", "a" * 64])
def test_possible_names(name: str) -> None:
    assert [team.name for team in teams(f'[teams."{name}"]')] == [name]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("team = 1", "[team]: only [teams.NAME] belongs here; did you mean 'teams'?"),
        ("[design]", "[design]: only [teams.NAME] belongs here"),
        ("teams = 1", "[teams]: must be a table"),
        ("[[teams]]", "[teams]: must be a table"),
        ("[teams]\na = 1", "[teams] a: must be a table"),
    ],
)
def test_wrong_shapes(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_all_faults_at_once() -> None:
    text = "x = 1\n[teams.a]\nmax_n = 0\nmodels = ['y']\n[teams.b.limits]\nz = 1\n[teams.'?']"
    assert len(faults(text)) == 5


def test_a_syntax_error_names_file_and_line() -> None:
    with pytest.raises(ConfigError, match=r"^other\.toml: not valid TOML: .*line 2"):
        read_teams("[teams.a]\n= 1", models=MODELS, file="other.toml")


def test_the_shipped_file() -> None:
    design, research = read_teams(SHIPPED, models={"gpt-image-2": GPT_IMAGE_2})
    assert (design.name, research.name) == ("design", "research")
    assert design.limits.cost_per_day == 10_000_000
    assert research.models is None
    assert not research.cache


def test_the_examples_in_the_shipped_file_are_valid() -> None:
    shown = re.sub(r"^#(?=\w+ = )", "", SHIPPED, flags=re.MULTILINE)
    _, research = read_teams(shown, models={"gpt-image-2": GPT_IMAGE_2})
    assert research.limits.images_per_day == 1_000
    assert research.qualities == ("high",)


@pytest.mark.parametrize("form", ["auto", "b64_json", "url", "both", "upstream"])
def test_forms_with_links_need_a_gateway_that_has_them(form: str) -> None:
    text = f'[teams.a]\ndeliver = "{form}"'
    (team,) = read_teams(text, models=MODELS)
    assert team.deliver == form
    if form in ("url", "both"):
        with pytest.raises(ConfigError, match=r"\[teams.a\] deliver: needs links to pictures"):
            read_teams(text, models=MODELS, has_urls=False)
    else:
        assert read_teams(text, models=MODELS, has_urls=False) == [team]
