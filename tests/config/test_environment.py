"""Variables as options: text into values, and names of no option."""

from collections.abc import Collection

import pytest

from gateway.config.environment import find_stray_variables, value_of
from gateway.config.load import read_settings
from gateway.config.settings import OPTIONS as SECTION_OPTIONS
from gateway.config.settings import SECTIONS
from gateway.core.faults import ENVIRONMENT, ConfigError, Faults
from gateway.core.secret import Secret

OPTIONS = {
    f"{section}.{name}": option
    for section, options in SECTION_OPTIONS.items()
    for name, option in options.items()
}
KNOWN = {option.variable for option in OPTIONS.values() if option.variable}


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("server.port", "0", 0),
        ("server.port", " 8_081 ", 8081),
        ("server.max_body_bytes", "+1_048_576", 1_048_576),
        ("server.drain_seconds", "0.5", 0.5),
        ("server.drain_seconds", "10", 10.0),
        ("server.drain_seconds", "1e2", 100.0),
        ("server.host", "0.0.0.0", "0.0.0.0"),
        ("server.host", "127.0.0.1, ::1", ("127.0.0.1", "::1")),
        ("server.host", '["::1"]', "::1"),
        ("cache.enabled", "false", False),
        ("cache.enabled", " True ", True),
        ("cache.ignore_fields", "user, trace ,", ("user", "trace")),
        ("cache.ignore_fields", "user", ("user",)),
        ("cache.ignore_fields", '["a,b", "c"]', ("a,b", "c")),
        ("cache.ignore_fields", "[]", ()),
        ("limits.images_per_day", "0", 0),
        ("limits.cost_per_day_usd", "0.10", 100_000),
        ("log.level", "debug", "debug"),
        ("log.level", "INFO", "info"),
        ("log.level", "Warning", "warning"),
        ("upstream.base_url", "https://example.com/", "https://example.com"),
        ("upstream.api_key", "sk-1", Secret("sk-1")),
        ("keys.pepper", "sixteen bytes, ü", Secret("sixteen bytes, ü")),
    ],
)
def test_valid_values(option: str, text: str, value: object) -> None:
    assert value_of(OPTIONS[option], text) == value


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("server.port", text) for text in ("80.0", "0x50", "1__0", "_1", "eighty", "-1", "٨٠")),
        *(("server.port", text) for text in ("65536", "9" * 40, "true", "8080;canary")),
        pytest.param("server.port", "9" * 10_000, id="many digits"),
        pytest.param("server.port", "9" + "_9" * 10_000, id="many groups of digits"),
        *(("server.drain_seconds", text) for text in ("nan", "inf", "-1", "1e400", "5s", "true")),
        *(("cache.enabled", text) for text in ("1", "0", "yes", "on", "none")),
        *(("cache.ignore_fields", text) for text in ("[", "[1]", "['a'", "[]\nb = 1", "['a']x")),
        pytest.param("cache.ignore_fields", "[" * 100_000, id="deep"),
        *(("limits.cost_per_day_usd", text) for text in ("-1", "1e3", "$1", "0.0000001", "nan")),
        *(("log.level", text) for text in ("loud", "INFO ", "warn")),
        *(("upstream.api_key", text) for text in ("sk canary", "sk-canary\r\n", "sk-cänary")),
        *(("keys.pepper", text) for text in ("short canary", "canary " * 3 + "\udcff")),
    ],
)
def test_invalid_values(option: str, text: str) -> None:
    with pytest.raises(ValueError, match="must be ") as caught:
        value_of(OPTIONS[option], text)
    which = "; item 1 is wrong" if text == "[1]" else ""
    assert str(caught.value) == f"must be {OPTIONS[option].valid}{which}"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mark", ['"', "'", "`"])
@pytest.mark.parametrize(
    "option",
    [
        *("upstream.api_key", "keys.pepper", "admin.token", "store.url", "cache.url"),
        *("upstream.base_url", "server.port"),
    ],
)
def test_quotes_around_a_value_are_a_fault_that_says_so(option: str, mark: str) -> None:
    with pytest.raises(ValueError, match=r"^has quotes around it: remove them$"):
        value_of(OPTIONS[option], f"{mark}canary canary canary{mark}")
    with pytest.raises(ValueError, match=r"^begins with a byte order mark"):
        value_of(OPTIONS[option], "\ufeffcanary")


def test_a_pepper_may_begin_with_a_quote() -> None:
    assert value_of(OPTIONS["keys.pepper"], "'" + "x" * 16) == Secret("'" + "x" * 16)


def stray(
    *names: str, value: str = "8080", known: Collection[str] = KNOWN
) -> tuple[list[str], list[str]]:
    faults, warnings = Faults(ENVIRONMENT), Faults(ENVIRONMENT)
    find_stray_variables(dict.fromkeys(names, value), known, SECTIONS, faults, warnings)
    return list(map(str, faults.found)), list(map(str, warnings.found))


def test_a_misspelt_option_of_a_known_section_is_a_fault() -> None:
    faults, warnings = stray("GATEWAY_SERVER_PROT", "GATEWAY_CACHE_TINT", "GATEWAY_SERVER_")
    assert not warnings
    assert faults[0] == "environment GATEWAY_CACHE_TINT: no such option"
    assert faults[1] == "environment GATEWAY_SERVER_: no such option"
    assert faults[2] == (
        "environment GATEWAY_SERVER_PROT: no such option; did you mean 'GATEWAY_SERVER_PORT'?"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_UPSTEAM_PATH", "GATEWAY_UPSTREAM_PATH"),
        ("GATEWAY_ADMIN_PORT", "GATEWAY_SERVER_ADMIN_PORT"),
    ],
)
def test_an_option_of_a_wrong_section_is_a_fault_with_a_hint(name: str, meant: str) -> None:
    known = {*KNOWN, meant}
    shown = f"environment {name}: no such option; did you mean '{meant}'?"
    assert stray(name, known=known) == ([shown], [])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_PORT", "GATEWAY_SERVER_PORT"),
        ("GATEWAY_TOKEN", "GATEWAY_ADMIN_TOKEN"),
        ("GATEWAY_URL", "GATEWAY_STORE_URL"),
        ("GATEWAY_OPS_URL", "GATEWAY_STORE_URL"),
    ],
)
def test_a_variable_of_no_section_only_causes_a_warning(name: str, meant: str) -> None:
    shown = f"environment {name}: not an option of the gateway, ignored; did you mean '{meant}'?"
    assert stray(name, known={meant}) == ([], [shown])


@pytest.mark.parametrize(
    "name",
    [
        *("GATEWAY_SERVICE_HOST", "GATEWAY_SERVICE_PORT", "GATEWAY_PORT_80_TCP"),
        *("GATEWAY_SERVICE_PORT_HTTP", "GATEWAY_PORT_80_TCP_ADDR", "GATEWAY_CACHE_PORT_1_TCP"),
        *("GATEWAY_STORE_SERVICE_HOST", "GATEWAY_CACHE_SERVICE_PORT", "GATEWAY_ADMIN_SERVICE_PORT"),
        *("GATEWAY_SERVER_PORT_80_TCP_PORT", "GATEWAY_SERVER_PORT_80_TCP_PROTO"),
        *("GATEWAY_STORE_REDIS_SERVICE_PORT_TCP_REDIS", "GATEWAY_ADMIN_2_PORT_53_UDP"),
        *("GATEWAY_", "GATEWAY_MODELS_X", "GATEWAY_OF_SOMEBODY_ELSE"),
    ],
)
def test_any_other_variable_is_a_warning(name: str) -> None:
    faults, (warning,) = stray(name)
    assert not faults
    assert warning == f"environment {name}: not an option of the gateway, ignored"


ADDRESSES = ("tcp://10.0.0.7:80", "udp://10.0.0.7:53", "sctp://[fd00::7]:80")


@pytest.mark.parametrize(
    "name",
    [
        *("GATEWAY_PORT", "GATEWAY_ADMIN_PORT", "GATEWAY_STORE_PORT"),
        *("GATEWAY_CACHE_REDIS_PORT", "GATEWAY_STORE_2_PORT"),
    ],
)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_kubernetes_is_a_warning(name: str, address: str) -> None:
    faults, (warning,) = stray(name, value=address)
    assert not faults
    assert warning == f"environment {name}: not an option of the gateway, ignored"
    assert stray(name) != ([], [warning])


@pytest.mark.parametrize("name", ["GATEWAY_SERVER_PORT", "GATEWAY_SERVER_ADMIN_PORT"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_kubernetes_is_not_read_as_an_option(name: str, address: str) -> None:
    settings, (warning,) = read_settings("[server]\nport = 81\nadmin_port = 82", {name: address})
    assert (settings.server.port, settings.server.admin_port) == (81, 82)
    assert str(warning) == (
        f"environment {name}: ignored: it holds the address of a Kubernetes Service"
    )
    with pytest.raises(ConfigError):
        read_settings("", {name: "http://10.0.0.7"})


def test_variables_of_other_programs_cause_nothing() -> None:
    names = [*KNOWN, "GATEWAY_SANDBOX_API_KEY", "PATH", "gateway_server_prot", "MY_GATEWAY_X"]
    assert stray(*names) == ([], [])


def test_a_name_cannot_disturb_a_terminal() -> None:
    _, (warning,) = stray("GATEWAY_\x1b[2J\n\udcff")
    assert warning.startswith('environment "GATEWAY_\\u001b[2J\\n\\udcff": not an option')
