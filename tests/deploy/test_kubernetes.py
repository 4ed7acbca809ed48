"""deploy/kubernetes: valid in strict mode, restricted, and consistent."""

import re
import shutil
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.config.files import load_settings
from tests.support.tools import DEPLOY, passes

FOLDER = DEPLOY / "kubernetes"
BASE, EXAMPLE = FOLDER / "base", FOLDER / "overlays" / "example"
FILES = sorted(
    file
    for file in FOLDER.rglob("*.yaml")
    # Of kinds that Kubernetes itself does not know.
    if file.name not in ("kustomization.yaml", "servicemonitor.yaml")
)
VERSIONS = ["1.30", "1.37"]
"""The oldest supported version, and the newest that the program knows."""


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


DEPLOYMENT = documents(BASE / "deployment.yaml")[0]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_valid_in_strict_mode(version: str) -> None:
    for each in [document for file in FILES for document in documents(file)]:
        kubernetes_validate.validate(each, version, strict=True)


@cache
def rendered() -> list[dict[str, Any]]:
    """The manifests that an operator would apply."""
    return list(yaml.safe_load_all(passes("kubectl", "kustomize", EXAMPLE)))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_example_renders() -> None:
    found = rendered()
    assert {each["kind"] for each in found} >= {
        *("Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"),
        *("ServiceMonitor", "ConfigMap", "ServiceAccount", "Service", "Namespace"),
    }
    assert "Secret" not in {each["kind"] for each in found}
    (deployment,) = [each for each in found if each["kind"] == "Deployment"]
    (config,) = [each for each in found if each["kind"] == "ConfigMap"]
    pod = deployment["spec"]["template"]["spec"]
    assert config["metadata"]["name"] in str(pod["volumes"])
    assert config["data"]["gateway.toml"] == (EXAMPLE / "gateway.toml").read_text()
    assert pod["containers"][0]["image"].startswith("registry.example.com/image-gateway:")
    for each in found:
        if each["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(each, VERSIONS[-1], strict=True)


SPECS = [
    each
    for name in ("services", "disruption", "network")
    for each in documents(BASE / f"{name}.yaml")
]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    "written", SPECS, ids=lambda each: f"{each['kind']} {each['metadata']['name']}"
)
def test_rendering_changes_no_selectors(written: dict[str, Any]) -> None:
    (found,) = [
        each
        for each in rendered()
        if (each["kind"], each["metadata"]["name"])
        == (written["kind"], written["metadata"]["name"])
    ]
    assert found["spec"] == written["spec"]


def test_the_network_policy_leads_to_redis_and_not_to_the_gateway_itself() -> None:
    # kustomize would put its own pairs into every selector.
    (base,) = documents(BASE / "kustomization.yaml")
    assert all(set(labels) == {"pairs"} for labels in base["labels"])
    (policy,) = documents(BASE / "network.yaml")
    (redis,) = [
        rule["to"]
        for rule in policy["spec"]["egress"]
        if {"port": 6379, "protocol": "TCP"} in rule["ports"]
    ]
    assert redis == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}]


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
def test_the_configuration_is_right_and_listens_where_the_ports_are(folder: Path) -> None:
    settings, warnings = load_settings(folder / "gateway.toml", {}, needs_upstream=True)
    assert not warnings
    server = settings.server
    assert (server.host, server.admin_host) == ("0.0.0.0", "0.0.0.0")
    assert (PORTS["http"], PORTS["admin"]) == (server.port, server.admin_port)
    stop = server.drain_notice_seconds + server.drain_seconds
    assert POD["terminationGracePeriodSeconds"] >= stop + 20
    key = Path(settings.upstream.api_key_file or "")
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "upstream-key"]
    assert str(key.parent) == mount["mountPath"]


def test_the_pod_is_restricted() -> None:
    security = POD["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def test_probes_ask_the_admin_port() -> None:
    probes = {name: probe for name, probe in CONTAINER.items() if name.endswith("Probe")}
    asked = {
        name: (probe["httpGet"]["port"], probe["httpGet"]["path"]) for name, probe in probes.items()
    }
    assert asked == {
        "startupProbe": ("admin", "/healthz"),
        "livenessProbe": ("admin", "/healthz"),
        "readinessProbe": ("admin", "/readyz?exclude=store"),
    }


def test_secrets_are_named_and_have_no_values() -> None:
    (example,) = documents(EXAMPLE / "secret.example.yaml")
    assert set(example["stringData"].values()) == {""}
    (overlay,) = documents(EXAMPLE / "kustomization.yaml")
    assert "secret.example.yaml" not in overlay["resources"]
    named = [each["valueFrom"]["secretKeyRef"] for each in CONTAINER["env"]]
    (volume,) = [each["secret"] for each in POD["volumes"] if "secret" in each]
    assert {each["name"] for each in named} == {volume["secretName"]}
    assert volume["secretName"] == example["metadata"]["name"]
    keys = {each["key"] for each in [*named, *volume["items"]]}
    assert keys == set(example["stringData"])


def test_each_variable_is_an_option() -> None:
    values = {each["name"]: "redis://h:6379/0" for each in CONTAINER["env"]}
    settings, warnings = load_settings(BASE / "gateway.toml", values)
    assert not warnings
    assert settings.cache.url


def test_selectors_meet_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    (policy,) = documents(BASE / "network.yaml")
    (budget,) = documents(BASE / "disruption.yaml")
    public, admin = documents(BASE / "services.yaml")
    for selector in (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        policy["spec"]["podSelector"]["matchLabels"],
        budget["spec"]["selector"]["matchLabels"],
        public["spec"]["selector"],
        admin["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
    for service in (public, admin):
        assert all(port["targetPort"] in PORTS for port in service["spec"]["ports"])
    incoming = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert set(incoming) == set(PORTS)
    (scaler,) = documents(BASE / "autoscaler.yaml")
    assert scaler["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT["spec"]


def test_prometheus_finds_the_admin_port_alone() -> None:
    (monitor,) = documents(EXAMPLE / "servicemonitor.yaml")
    _, admin = documents(BASE / "services.yaml")
    common = yaml.safe_load((BASE / "kustomization.yaml").read_text())["labels"][0]["pairs"]
    labels = {**common, **admin["metadata"]["labels"]}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in admin["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"


def test_the_image_is_this_version() -> None:
    image = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"][0]
    assert image["name"] == CONTAINER["image"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"])
    assert tomllib.loads((BASE / "gateway.toml").read_text())["upstream"]["api_key_file"]
