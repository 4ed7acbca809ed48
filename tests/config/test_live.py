"""Which changes of the configuration a running gateway applies."""

import pytest
from msgspec.structs import replace

from gateway.config.live import reloaded
from gateway.config.models import GPT_IMAGE_2
from gateway.config.settings import OPTIONS, Settings
from gateway.core.model import Limits
from gateway.core.secret import Secret

RUNNING = Settings()
OTHER = Secret("canary")
"""A value that no option has. What is compared need not be valid."""

CASES = [(section, name) for section in OPTIONS for name in OPTIONS[section] if section != "limits"]


def with_other(section: str, name: str) -> Settings:
    changed = replace(getattr(RUNNING, section), **{name: OTHER})
    return replace(RUNNING, **{section: changed})


@pytest.mark.parametrize(("section", "name"), CASES)
def test_each_option_is_changed_or_waits(section: str, name: str) -> None:
    found = with_other(section, name)
    outcome = reloaded(RUNNING, found)
    if OPTIONS[section][name].needs_restart:
        assert outcome.settings == RUNNING
        assert (outcome.changed, outcome.waiting) == ([], [f"[{section}] {name}"])
    else:
        assert outcome.settings == found
        assert (outcome.changed, outcome.waiting) == ([f"[{section}] {name}"], [])
    assert "canary" not in repr(outcome)


def test_a_waiting_option_is_listed_at_each_reload() -> None:
    found = with_other("server", "port")
    again = reloaded(reloaded(RUNNING, found).settings, found)
    assert (again.settings, again.waiting) == (RUNNING, ["[server] port"])


def test_nothing_changes() -> None:
    outcome = reloaded(RUNNING, Settings())
    assert (outcome.settings, outcome.changed, outcome.waiting) == (RUNNING, [], [])


def test_limits_and_models() -> None:
    models = {"other model": replace(GPT_IMAGE_2, name="other model")}
    found = Settings(limits=Limits(images_per_day=1), models=models, default_model="other model")
    outcome = reloaded(RUNNING, found)
    assert outcome.settings == found
    assert outcome.changed == [
        "[limits]",
        "[models.gpt-image-2]",
        '[models."other model"]',
        "the default model",
    ]
