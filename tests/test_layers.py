"""The shape of the code: its folders, the direction of imports, the pure files, and their sizes."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "gateway"

LAYERS = [
    *("cli", "server", "web", "cache", "stores", "proxy", "images", "reporting"),
    *("telemetry", "quota", "tenants", "upstream", "config", "core"),
]
"""The folders from top to bottom: each imports only from the folders after it."""

BESIDE_THE_FOLDERS = {"__init__.py", "__main__.py", "py.typed"}

MOST_LINES = 400

IMPURE = {"asyncio", "time", "random", "sqlite3", "redis", "aiohttp"}

PURE = {
    "cache": ["codec"],
    "config": [
        *(
            "admin_tokens",
            "client_tables",
            "environment",
            "images",
            "live",
            "load",
            "model_tables",
            "models",
        ),
        *("options", "recording", "settings", "store_url", "teams_file", "values", "webhooks"),
    ],
    "core": [
        *("codings", "errors", "faults", "headers", "key_format", "model", "money", "periods"),
        *("lenient_json", "picture_spans", "redaction", "secret", "strict_json", "upstream_errors"),
    ],
    "images": ["events", "forms", "links", "picture", "reach"],
    "proxy": [
        *("cache_control", "fingerprint", "image_request", "leases", "operation_name", "policy"),
        "url_expiry",
    ],
    "quota": [
        *("account", "holds", "image_response", "limits", "named", "operations", "pricing"),
        *("purchase", "refund", "refusal", "step", "steps", "token_usage"),
    ],
    "reporting": ["alerts/message", "alerts/rules", "invoice", "request_lines"],
    "stores": ["archive_format", "codec", "sums"],
    "telemetry": ["reasons"],
    "tenants": ["views"],
    "upstream": ["decompress", "events", "outcome", "reason", "sandbox/png"],
    "web": [
        *("admin/session_cookie", "addresses", "admin/throttle", "cors", "hints"),
        "rate_limit_headers",
    ],
}
"""The files that only compute: they never wait, read a clock or reach the outside world."""

PURE_MODULES = {
    f"gateway.{folder}.{name.replace('/', '.')}" for folder, names in PURE.items() for name in names
}


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in PACKAGE.rglob("*.py")}


def _imports(path: Path) -> Iterator[str]:
    """The modules that a file names in its imports, wherever in the file they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


@cache
def all_imports() -> dict[str, set[str]]:
    """The imports of each module of the gateway. Reading all files takes a second."""
    return {module: set(_imports(path)) for module, path in MODULES.items()}


def own_imports() -> dict[str, set[str]]:
    """The imports of other modules of the gateway."""
    return {module: names & MODULES.keys() for module, names in all_imports().items()}


def _layer(module: str) -> int:
    """The place of a module's folder in the list; the package itself stands above all folders."""
    _, *folders = module.split(".")
    return LAYERS.index(folders[0]) if folders and folders[0] in LAYERS else -1


def test_the_package_holds_the_layers_and_nothing_else() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == {*LAYERS, *BESIDE_THE_FOLDERS}


def test_imports_only_go_down() -> None:
    upward = {
        f"{module} imports {imported}"
        for module, names in own_imports().items()
        for imported in names
        if imported != "gateway" and _layer(imported) < _layer(module)
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {module: names - {module} for module, names in own_imports().items()}
    while free := {module for module, names in waiting.items() if not names}:
        waiting = {module: names - free for module, names in waiting.items() if names}
    assert waiting == {}, "these modules import each other, or a module that does"


def test_pure_files_import_nothing_impure_directly_or_indirectly() -> None:
    assert MODULES.keys() >= PURE_MODULES, "one was renamed or removed: correct PURE"
    own = own_imports()
    impure = set[str]()
    for module in PURE_MODULES:
        reached, waiting = {module}, [module]
        while waiting:
            imported = own[waiting.pop()] - reached
            reached |= imported
            waiting += imported
        impure |= {
            f"{module} reaches {each}, which imports {name}"
            for each in reached
            for name in all_imports()[each]
            if name.partition(".")[0] in IMPURE
        }
    assert impure == set()


def test_no_file_is_too_long_to_read_in_one_go() -> None:
    long = {
        str(path.relative_to(PACKAGE))
        for path in MODULES.values()
        if len(path.read_text().splitlines()) > MOST_LINES
    }
    assert long == set(), f"split what has more than {MOST_LINES} lines"
