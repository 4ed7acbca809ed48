"""Aliases, rewritten fields and upstream defaults: what is read, and which faults are found."""

import pytest

from gateway.config.client_tables import REWRITE
from gateway.config.model_tables import read_models
from gateway.config.models import UPSTREAM_DEFAULTS, Model, Rewrite
from gateway.config.options import parse_toml
from gateway.core.faults import Faults

PRICE = "[models.a]\nprices = 0.04\n"


def read(text: str) -> tuple[dict[str, Model], list[str]]:
    faults = Faults("f.toml", ("models",))
    models, _ = read_models(parse_toml(text, "").get("models", {}), faults)
    return models, [str(fault).removeprefix("f.toml: ") for fault in faults.found]


def test_all_of_it() -> None:
    models, faults = read(
        PRICE
        + """
        aliases = ["b", "vendor/b-1.5"]
        [models.a.rewrite]
        quality = { standard = "medium", "" = "low" }
        size = { "512x512" = "1024x1024", small = "auto" }
        drop = ["style"]
        [models.a.upstream_defaults]
        seed = 0
        tiles = false
        mood = ""
        """
    )
    assert not faults
    assert models["a"].aliases == ("b", "vendor/b-1.5")
    assert models["a"].rewrite == Rewrite(
        quality={"standard": "medium", "": "low"},
        size={"512x512": "1024x1024", "small": "auto"},
        drop=("style",),
    )
    assert models["a"].upstream_defaults == {"seed": 0, "tiles": False, "mood": ""}


def test_without_them() -> None:
    models, _ = read(PRICE)
    assert (models["a"].aliases, models["a"].rewrite) == ((), Rewrite())
    assert models["a"].upstream_defaults == UPSTREAM_DEFAULTS
    assert read(f"{PRICE}upstream_defaults = {{}}")[0]["a"].upstream_defaults == {}


OTHER = "\n[models.b]\ndefault = true\nprices = 1\n"
QUALITY, SIZE, DROP = (option.valid for option in REWRITE.values())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("aliases = ['a']", "[models.a] aliases: item 1 is the name of a model"),
        (f"aliases = ['x', 'b']{OTHER}", "[models.a] aliases: item 2 is the name of a model"),
        ("aliases = ['x', 'x']", "[models.a] aliases: item 2 is already an alias of a"),
        (
            f"aliases = ['x']{OTHER}aliases = ['x']",
            "[models.b] aliases: item 1 is already an alias of a",
        ),
        (
            "aliases = ['x y']",
            "[models.a] aliases: item 1: a model's name has 1 to 128 letters, digits and . _ : / -",
        ),
        ("rewrite = 1", "[models.a] rewrite: must be a table"),
        ("rewrite.style = 1", "[models.a.rewrite] style: no such option"),
        ("rewrite.quality = 1", f"[models.a.rewrite] quality: must be {QUALITY}"),
        ("rewrite.quality.hd = 'best'", f"[models.a.rewrite] quality: must be {QUALITY}"),
        ("rewrite.size.512x512 = 1024", f"[models.a.rewrite] size: must be {SIZE}"),
        ("rewrite.drop = 'style'", f"[models.a.rewrite] drop: must be {DROP}"),
        (
            "rewrite.size.512x512 = '640x640'",
            "[models.a.rewrite.size] 512x512: breaks the model's own size rules: size must have "
            "655360 to 8294400 pixels",
        ),
        (
            "rewrite.size.big = 'huge'",
            "[models.a.rewrite.size] big: breaks the model's own size rules: size must be 'auto' "
            "or WxH, such as 1024x1024",
        ),
        *(
            (
                f"rewrite.drop = ['style', '{name}']",
                "[models.a.rewrite] drop: item 2 is a field that the gateway reads itself",
            )
            for name in ("model", "prompt", "size", "n", "quality", "stream", "partial_images")
        ),
        (
            "rewrite.drop = ['Quality']",
            "[models.a.rewrite] drop: item 1 is a field that the gateway reads itself",
        ),
        ("upstream_defaults = ['stream']", "[models.a] upstream_defaults: must be a table"),
        *(
            (
                f"upstream_defaults.{name} = 1",
                f"[models.a.upstream_defaults] {name}: must be a field other than model, prompt, "
                "size, n, response_format, stream, partial_images",
            )
            for name in ("model", "prompt", "size", "n", "response_format", "stream")
        ),
        *(
            (
                f"upstream_defaults.seed = {value}",
                "[models.a.upstream_defaults] seed: must be text, an integer, true or false",
            )
            for value in ("1.0", "[]", "{}", "nan", "2026-01-01")
        ),
    ],
)
def test_faults(text: str, fault: str) -> None:
    assert read(PRICE + text)[1] == [fault]
