"""The whole configuration: file and environment together, and every fault at once."""

from collections.abc import Mapping

import pytest

from gateway.config.images import NO_LINKS
from gateway.config.load import read_settings
from gateway.config.settings import OPTIONS as SECTION_OPTIONS
from gateway.config.settings import Settings
from gateway.core.faults import ConfigError
from gateway.core.model import Limits
from gateway.core.secret import Secret

OPTIONS = [(section, name) for section, options in SECTION_OPTIONS.items() for name in options]
CANARY = "canary-7f3a9c"


def settings(text: str = "", **environ: str) -> Settings:
    found, warnings = read_settings(text, environ)
    assert not warnings
    return found


def faults(
    text: str = "", environ: Mapping[str, str] | None = None, *, needs_upstream: bool = False
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_settings(text, environ or {}, needs_upstream=needs_upstream)
    return list(map(str, caught.value.faults))


# -- valid configurations -----------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "[server]", "# nothing"])
def test_nothing_written_means_defaults(text: str | None) -> None:
    assert read_settings(text, {}) == (Settings(), [])


def test_values_of_a_file() -> None:
    found = settings(
        """
        [upstream]
        base_url = "https://images.example.com/"
        timeout_seconds = 60.5
        [store]
        url = "sqlite:/var/lib/gateway.db"
        [cache]
        ignore_fields = []
        [limits]
        images_per_month = 10
        cost_per_day_usd = 0.07
        [models.draw]
        prices = 0.04
        """
    )
    assert found.upstream.url == "https://images.example.com/api/v1/images/generations"
    assert found.upstream.timeout_seconds == 60.5
    assert found.store.place.path == "/var/lib/gateway.db"
    assert found.cache.ignore_fields == ()
    assert found.limits == Limits(images_per_month=10, cost_per_day=70_000)
    assert type(found.limits.cost_per_day) is int
    assert (list(found.models), found.default_model) == (["draw"], "draw")


def test_the_environment_outranks_the_file() -> None:
    found = settings(
        "[server]\nport = 1\nhost = 'localhost'\n[cache]\nenabled = true",
        GATEWAY_SERVER_PORT="2",
        GATEWAY_CACHE_ENABLED="false",
        GATEWAY_LIMITS_COST_PER_MONTH_USD="10",
        GATEWAY_UPSTREAM_API_KEY="sk-1",
        GATEWAY_KEYS_PEPPER="sixteen bytes or more",
    )
    assert (found.server.port, found.server.host) == (2, "localhost")
    assert not found.cache.enabled
    assert found.limits == Limits(cost_per_month=10_000_000)
    assert found.upstream.api_key == Secret("sk-1")
    assert found.keys.pepper == Secret("sixteen bytes or more")


def test_the_command_line_outranks_the_environment() -> None:
    environ = {"GATEWAY_SERVER_PORT": "2", "GATEWAY_SERVER_ADMIN_PORT": "3"}
    found, _ = read_settings("[server]\nport = 1", environ, arguments={"server.port": "4"})
    assert (found.server.port, found.server.admin_port) == (4, 3)
    with pytest.raises(ConfigError) as caught:
        read_settings("", environ, arguments={"server.port": "", "server.admin_port": "3"})
    assert str(caught.value) == f"command line --port: {PORT}"
    with pytest.raises(ConfigError, match=r"^command line --admin-port: must differ from port"):
        read_settings("", environ, arguments={"server.port": "3", "server.admin_port": "3"})


FILE_PLACES = [f"config/gateway.toml: [upstream] {name}" for name in ("base_url", "api_key_file")]
VARIABLE_PLACES = [f"environment GATEWAY_UPSTREAM_{name}" for name in ("BASE_URL", "API_KEY_FILE")]


def test_a_fault_names_a_file_only_if_there_is_one() -> None:
    environ = {"GATEWAY_UPSTREAM_CONNECT_SECONDS": "400"}
    for text, places in (
        ("", ["config/gateway.toml: [upstream] timeout_seconds", *FILE_PLACES]),
        (None, ["default: [upstream] timeout_seconds", *VARIABLE_PLACES]),
    ):
        with pytest.raises(ConfigError) as caught:
            read_settings(text, environ, needs_upstream=True)
        assert [fault.place for fault in caught.value.faults] == places


def test_an_empty_variable_is_not_set() -> None:
    environ = {f"GATEWAY_{section}_{name}".upper(): "" for section, name in OPTIONS}
    assert read_settings(None, environ | {"GATEWAY_SERVER_X": "", "GATEWAY_X": ""}) == (
        Settings(),
        [],
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_newline_at_the_end_of_a_variable_is_dropped(end: str) -> None:
    found = settings(
        GATEWAY_STORE_URL=f"redis://ledger:6379/0{end}",
        GATEWAY_CACHE_URL=f"redis://cache:6379/0{end}",
        GATEWAY_ADMIN_TOKEN=f"a-token-of-the-admins{end}",
        GATEWAY_UPSTREAM_API_KEY=f"key{end}",
        GATEWAY_LOG_LEVEL=end,
    )
    assert (found.store.url, found.cache.url) == ("redis://ledger:6379/0", "redis://cache:6379/0")
    assert found.admin.token == Secret("a-token-of-the-admins")
    assert found.upstream.api_key == Secret("key")
    assert found.log.level == "info"


def test_only_the_environment_may_hold_the_admin_token() -> None:
    token = "a-token-of-an-operator"
    found = settings(GATEWAY_ADMIN_TOKEN=token)
    assert found.admin.token == Secret(token)
    assert [(known.name, known.role) for known in found.admin.all_tokens] == [("admin", "admin")]
    (fault,) = faults(f'[admin]\ntoken = "{token}"')
    assert fault.endswith("must not be in a file: set the environment variable GATEWAY_ADMIN_TOKEN")


@pytest.mark.parametrize("token", ["fifteen-letters", "with a blank in the middle", "x" * 201])
def test_invalid_admin_tokens(token: str) -> None:
    (fault,) = faults("", {"GATEWAY_ADMIN_TOKEN": token})
    assert fault.startswith("environment GATEWAY_ADMIN_TOKEN: must be 16 to 200 printable")


def test_kubernetes_variables_are_warned_about() -> None:
    environ = {"GATEWAY_PORT": f"tcp://{CANARY}:80", "GATEWAY_SERVICE_HOST": CANARY, "PATH": "/bin"}
    found, warnings = read_settings("", environ)
    assert found == Settings()
    assert list(map(str, warnings)) == [
        "environment GATEWAY_PORT: not an option of the gateway, ignored",
        "environment GATEWAY_SERVICE_HOST: not an option of the gateway, ignored",
    ]


@pytest.mark.parametrize(
    ("base_url", "path", "called"),
    [
        ("https://h", "/v1/images", None),
        ("https://h/v1/", "/v1/images", "https://h/v1/v1/images"),
        ("https://h/v1", "/images", None),
        ("https://h/v10", "/v1/images", None),
        ("https://h/sk-abcdefgh/v1", "/v1/images", "https://h/[redacted]/v1/v1/images"),
    ],
)
def test_a_version_twice_causes_a_warning(base_url: str, path: str, called: str | None) -> None:
    doubt = (
        f"[upstream] base_url: ends in /v1, and so does path: the gateway will call {called}. "
        "Give scheme and host only"
    )
    text = f"[upstream]\nbase_url = '{base_url}'\npath = '{path}'"
    shown = [str(warning) for warning in read_settings(text, {}, file="f")[1]]
    assert shown == ([f"f: {doubt}"] if called else [])


@pytest.mark.parametrize(
    ("images", "is_warned"),
    [
        ("url = 's3://bucket', max_bytes = 1", True),
        ("url = 's3://bucket'", False),
        ("max_bytes = 1", False),
    ],
)
def test_a_limit_of_a_bucket_causes_a_warning(images: str, is_warned: bool) -> None:
    shown = [str(each) for each in read_settings(f"images = {{{images}}}", {}, file="f")[1]]
    warning = "has no effect with a bucket: give the bucket a lifecycle rule"
    assert shown == ([f"f: [images] max_bytes: {warning}"] if is_warned else [])


# -- faults -------------------------------------------------------------------------------------

PORT = "must be an integer from 0 to 65535"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[server]\nport = '80'", f"[server] port: {PORT}"),
        ("[server]\nprot = 1", "[server] prot: no such option; did you mean 'port'?"),
        ("[sevrer]\nport = 1", "[sevrer]: no such section; did you mean 'server'?"),
        ("[model.x]", "[model]: no such section; did you mean 'models'?"),
        ("port = 80", "the option port is in no section"),
        ("server = 80", "[server]: must be a table"),
        ("[[server]]\nport = 80", "[server]: must be a table"),
        ("models = 1", "[models]: must be a table"),
        (
            "[keys]\npepper = 'x'",
            "[keys] pepper: must not be in a file: set the environment variable "
            "GATEWAY_KEYS_PEPPER",
        ),
        (
            "[cache]\nurl = 'redis://:pw@h'",
            "[cache] url: holds a password, which must not be in a file: set the environment "
            "variable GATEWAY_CACHE_URL",
        ),
        (
            "[store]\nurl = 'redis+sentinel://h/s?sentinel_password=pw'",
            "[store] url: holds a password, which must not be in a file: set the environment "
            "variable GATEWAY_STORE_URL",
        ),
        (
            "[store]\nurl = 'redis:h'",
            "[store] url: must be sqlite: and the path of a file, or the URL of a Redis (redis://, "
            "rediss://, redis+cluster://, redis+sentinel://, redis+unix://)",
        ),
        (
            "[cache]\nurl = 'sqlite:x'",
            "[cache] url: must be the URL of a Redis (redis://, rediss://, redis+cluster://, "
            'redis+sentinel://, redis+unix://), or "" for memory only; the URL names a file, but a '
            "shared cache needs Redis",
        ),
        ("[server]\nport = ", "not valid TOML: Invalid value (at line 2, column 8)"),
    ],
)
def test_a_fault_names_its_place(text: str, fault: str) -> None:
    assert faults(text) == [f"config/gateway.toml: {fault}"]


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("GATEWAY_SERVER_PORT", "http", PORT),
        ("GATEWAY_SERVER_ADMIN_PORT", "8080", "must differ from port on the same host"),
        ("GATEWAY_SERVER_PROT", "1", "no such option; did you mean 'GATEWAY_SERVER_PORT'?"),
        ("GATEWAY_KEYS_PEPPER", "x", "must be text of at least 16 bytes"),
        ("GATEWAY_UPSTREAM_API_KEY", "a b", "must be printable ASCII without spaces"),
    ],
)
def test_a_fault_names_its_variable(variable: str, value: str, fault: str) -> None:
    assert faults("", {variable: value}) == [f"environment {variable}: {fault}"]


def test_all_faults_at_once() -> None:
    text = """
        x = 1
        [srver]
        [server]
        prot = 1
        port = -1
        drain_seconds = nan
        [limits]
        images_per_day = true
        [models.a]
        max_n = 0
        """
    environ = {"GATEWAY_SERVER_X": "1", "GATEWAY_LOG_LEVEL": "loud"}
    found = faults(text, environ, needs_upstream=True)
    assert [fault.removeprefix("config/gateway.toml: ").partition(": ")[0] for fault in found] == [
        "the option x is in no section",
        "[srver]",
        "environment GATEWAY_SERVER_X",
        "[server] prot",
        "[server] port",
        "[server] drain_seconds",
        "[limits] images_per_day",
        "environment GATEWAY_LOG_LEVEL",
        "[models.a] max_n",
        "[models.a] prices",
        "[upstream] base_url",
        "[upstream] api_key_file",
    ]


def test_a_wrong_value_is_a_fault_though_the_environment_outranks_it() -> None:
    assert faults("[server]\nport = -1", {"GATEWAY_SERVER_PORT": "80"}) == [
        f"config/gateway.toml: [server] port: {PORT}"
    ]


def test_a_wrong_value_is_compared_with_no_other() -> None:
    assert len(faults("[server]\nport = 9090\nadmin_port = -1")) == 1
    assert len(faults("server = 1", {"GATEWAY_SERVER_PORT": "9090"})) == 1


SAME_PORT = "[server] admin_port: must differ from port on the same host"
LINKLESS = f"[images] deliver: {NO_LINKS}"
SHORT = "[upstream] timeout_seconds: must be above connect_seconds"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server = {port = 80, admin_port = 80}", SAME_PORT),
        ("server = {port = 80, admin_port = 81}", None),
        ("server = {port = 80, admin_host = '127.0.0.2', admin_port = 80}", None),
        ("server = {port = 80, host = '0.0.0.0', admin_port = 80}", SAME_PORT),
        ("server = {port = 80, admin_host = '::', admin_port = 80}", SAME_PORT),
        ("server = {port = 80, admin_host = ['::1', '127.0.0.1'], admin_port = 80}", SAME_PORT),
        ("server = {port = 80, admin_host = ['::1', '127.0.0.2'], admin_port = 80}", None),
        ("server = {port = 80, host = ['::0', '127.0.0.1'], admin_port = 80}", SAME_PORT),
        ("server = {port = 0, admin_port = 0}", None),
        ("server = {tls_cert = 'c', tls_key = 'k'}", None),
        ("server = {tls_cert = 'c'}", "[server] tls_key: is needed because tls_cert is set"),
        ("server = {tls_key = 'k'}", "[server] tls_cert: is needed because tls_key is set"),
        ("store = {wait_replicas = 1}", "[store] wait_replicas: needs a Redis as the store"),
        ("store = {wait_replicas = 1, url = 'redis://h'}", None),
        ("images = {deliver = 'url'}", None),
        ("images = {deliver = 'url', enabled = false}", LINKLESS),
        ("images = {deliver = 'both'}\nstore = {url = 'redis://h'}", LINKLESS),
        ("images = {deliver = 'both'}\ncache = {url = 'redis://h'}", LINKLESS),
        ("images = {deliver = 'both', shared = true}\ncache = {url = 'redis://h'}", None),
        ("images = {deliver = 'both', url = 's3://bucket'}\ncache = {url = 'redis://h'}", None),
        ("images = {deliver = 'auto'}\ncache = {url = 'redis://h'}", None),
        (
            "images = {deliver = 'url', enabled = false}\nupstream = {response_format = true}",
            None,
        ),
        ("upstream = {connect_seconds = 5, timeout_seconds = 5.1}", None),
        ("upstream = {connect_seconds = 5, timeout_seconds = 5}", SHORT),
        ("upstream = {connect_seconds = 6, timeout_seconds = 5}", SHORT),
    ],
)
def test_settings_must_fit_together(text: str, fault: str | None) -> None:
    if fault:
        assert faults(text) == [f"config/gateway.toml: {fault}"]
    else:
        settings(text)


NO_URL = "[upstream] base_url: needs a value, in the file or in GATEWAY_UPSTREAM_BASE_URL"
NO_KEY = "[upstream] api_key_file: needs a value, or put the key itself into "
NO_KEY += "GATEWAY_UPSTREAM_API_KEY"


@pytest.mark.parametrize(
    ("text", "environ", "missing"),
    [
        ("", {}, [NO_URL, NO_KEY]),
        ("base_url = 'https://h'", {}, [NO_KEY]),
        ("base_url = 'https://h'\napi_key_file = 'key'", {}, []),
        ("", {"GATEWAY_UPSTREAM_API_KEY": "sk-1"}, [NO_URL]),
        ("base_url = 'https://h'", {"GATEWAY_UPSTREAM_API_KEY": "sk-1"}, []),
    ],
)
def test_requirements_of_serving(text: str, environ: dict[str, str], missing: list[str]) -> None:
    text = f"[upstream]\n{text}"
    read_settings(text, environ)
    if missing:
        found = faults(text, environ, needs_upstream=True)
        assert found == [f"config/gateway.toml: {fault}" for fault in missing]
    else:
        read_settings(text, environ, needs_upstream=True)


# -- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "name"), OPTIONS)
def test_no_fault_shows_a_value_of_the_file(section: str, name: str) -> None:
    for value in (f'"\\u0000{CANARY}"', f'["{CANARY}\\u0000"]', f'{{"{CANARY}" = 1}}'):
        assert CANARY not in "".join(faults(f"[{section}]\n{name} = {value}"))


@pytest.mark.parametrize(("section", "name"), OPTIONS)
def test_no_fault_shows_a_value_of_the_environment(section: str, name: str) -> None:
    found = faults("", {f"GATEWAY_{section}_{name}".upper(): f"\x00{CANARY}"})
    assert CANARY not in "".join(found)


@pytest.mark.parametrize(
    "text",
    [
        *(f"api_key = {CANARY}", f"api_key = '{CANARY}", f"[upstream]\napi_key == '{CANARY}'"),
        *(f"a = '{CANARY}' b", f'a = "\\q{CANARY}"', f'a = """{CANARY}', f"a = [{CANARY}"),
    ],
)
def test_no_syntax_error_shows_a_value(text: str) -> None:
    assert CANARY not in "".join(faults(text))


def test_settings_show_no_secret() -> None:
    found = settings(GATEWAY_UPSTREAM_API_KEY=CANARY, GATEWAY_KEYS_PEPPER=CANARY * 2)
    assert found.upstream.api_key is not None
    assert found.upstream.api_key.reveal() == CANARY
    assert CANARY not in f"{found} {found!r}"
