"""The manifests: valid by Kubernetes' own schema, fitting each other, the service and the metrics; and safe."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bento.serve_settings import ServeSettings
from tests.configs.test_prometheus import unknown_metrics

Document = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "configs" / "kubernetes"
OVERLAYS = (FOLDER, FOLDER / "keda")
STRICT = files("kubernetes_validate") / "kubernetes-json-schema" / "v1.37.0-local-strict" / "_definitions.json"
KUBERNETES = json.loads(STRICT.read_text(encoding="utf-8"))
CUSTOM = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text(encoding="utf-8"))
LOG_CLOSE_S = 5
"""What the service takes at most to write the rest of its log."""


def read(path: Path) -> Document:
    (document,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return dict(document)


def build(folder: Path) -> dict[str, Document]:
    """Kind -> document of an overlay, as `kubectl kustomize` puts it together from resources and images."""
    kustomization = read(folder / "kustomization.yaml")
    built: dict[str, Document] = {}
    for name in kustomization["resources"]:
        path = folder / name
        found = build(path) if path.is_dir() else {(document := read(path))["kind"]: document}
        assert not found.keys() & built.keys(), f"{path}: {found.keys() & built.keys()} is there already"
        built |= found
    for image in kustomization.get("images", ()):
        (container,) = pod(built)["containers"]
        assert container["image"] == image["name"]
        container["image"] = f"{image['newName']}:{image['newTag']}"
    return built


def pod(built: Mapping[str, Document]) -> Document:
    spec: Document = built["Deployment"]["spec"]["template"]["spec"]
    return spec


def schema_of(document: Document) -> Document:
    """The JSON schema of a document's kind and version."""
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind in CUSTOM["$defs"]:
        return CUSTOM | {"$ref": f"#/$defs/{kind}"}
    for name, schema in KUBERNETES["$defs"].items():
        properties = schema.get("properties", {})
        if properties.get("kind", {}).get("enum") == [kind] and properties["apiVersion"].get("enum") == [version]:
            return KUBERNETES | {"$ref": f"#/$defs/{name}"}
    raise AssertionError(f"{version} {kind} is no kind that Kubernetes has")


def refusals(built: Mapping[str, Document]) -> list[str]:
    """What the schemas say against the documents: place and reason."""
    found = []
    for kind, document in built.items():
        for error in jsonschema.Draft202012Validator(schema_of(document)).iter_errors(document):
            found.append(f"{kind}{error.json_path[1:]}: {error.message}")
    return found


def broken(built: Mapping[str, Document]) -> Iterator[str]:
    """References of one document to another that lead nowhere."""
    deployment, service, monitor = (built[kind] for kind in ("Deployment", "Service", "ServiceMonitor"))
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = {
        "Deployment": deployment["spec"]["selector"]["matchLabels"],
        "Service": service["spec"]["selector"],
        "PodDisruptionBudget": built["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    }
    selectors |= {
        f"topologySpreadConstraints {each['topologyKey']}": each["labelSelector"]["matchLabels"]
        for each in pod(built)["topologySpreadConstraints"]
    }
    yield from (f"{name} selects no pod" for name, wanted in selectors.items() if not wanted.items() <= labels)
    if not monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items():
        yield "ServiceMonitor selects no Service"
    if {each["port"] for each in monitor["spec"]["endpoints"]} - {each["name"] for each in service["spec"]["ports"]}:
        yield "ServiceMonitor names no port of the Service"
    for container in pod(built)["containers"]:
        ports = {each["name"] for each in container["ports"]}
        probes = [container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")]
        if {*probes, *(each["targetPort"] for each in service["spec"]["ports"])} - ports:
            yield "a probe or the Service names no port of the container"
        if {each["name"] for each in container["volumeMounts"]} != {each["name"] for each in pod(built)["volumes"]}:
            yield "volumes and mounts differ"
    scaler = built.get("HorizontalPodAutoscaler") or built["ScaledObject"]
    if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
        yield "the autoscaler names no Deployment"


@pytest.fixture(params=OVERLAYS, ids=["autoscaler", "keda"])
def built(request: pytest.FixtureRequest) -> dict[str, Document]:
    return build(request.param)


def environment() -> dict[str, str]:
    (container,) = pod(build(FOLDER))["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def scaling_queries() -> list[str]:
    """The Prometheus queries by which replicas are added, the adapter's placeholders filled in as for one job."""
    (rule,) = read(FOLDER / "prometheus-adapter.yaml")["rules"]["custom"]
    adapter = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'job="retort"').replace("<<.GroupBy>>", "instance")
    triggers = read(FOLDER / "keda" / "scaledobject.yaml")["spec"]["triggers"]
    return [adapter, *(each["metadata"]["query"] for each in triggers if each["type"] == "prometheus")]


def test_every_document_is_valid(built: dict[str, Document]) -> None:
    assert refusals(built) == []


def test_every_reference_leads_somewhere(built: dict[str, Document]) -> None:
    assert list(broken(built)) == []


def put(kind: str, path: str, value: Any) -> Callable[[dict[str, Document]], None]:
    """A fault: `value` at the dotted `path` of a document; numbers are places in lists."""

    def plant(built: dict[str, Document]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = built[kind]
        for part in parents:
            at = at[part]
        at[last] = value

    return plant


CONTAINER = "spec.template.spec.containers.0"


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (put("Deployment", f"{CONTAINER}.readinesProbe", {}), "'readinesProbe' was unexpected"),
        (put("Deployment", f"{CONTAINER}.ports.0.containerPort", "http"), "'http' is not of type 'integer'"),
        (put("Deployment", f"{CONTAINER}.env.0.value", 5000), "5000 is not of type 'string'"),
        (put("Deployment", "spec", {"template": {}}), "'selector' is a required property"),
        (put("Deployment", f"{CONTAINER}.securityContext.runAsNonroot", True), "'runAsNonroot' was unexpected"),
        (put("Service", "spec.ports.0.targetport", "http"), "'targetport' was unexpected"),
        (put("PodDisruptionBudget", "spec.maxUnavailabe", 1), "'maxUnavailabe' was unexpected"),
        (put("HorizontalPodAutoscaler", "spec.metrics.0.resource.target.averageUtilisation", 7), "was unexpected"),
        (put("HorizontalPodAutoscaler", "spec.maxReplicas", "10"), "'10' is not of type 'integer'"),
        (put("ServiceMonitor", "spec.endpoints.0.interval", "15"), "'15' does not match"),
        (put("ServiceMonitor", "spec.endpoint", []), "'endpoint' was unexpected"),
        (put("PrometheusRule", "spec.groups.0.rules.0.exp", "1"), "'exp' was unexpected"),
        (put("ScaledObject", "spec.triggers.1.metadata.threshold", 0.005), "0.005 is not of type 'string'"),
        (put("ScaledObject", "spec.maxReplicas", 10), "'maxReplicas' was unexpected"),
    ],
)
def test_a_wrong_field_is_refused(plant: Callable[[dict[str, Document]], None], expected: str) -> None:
    planted = copy.deepcopy(build(OVERLAYS[1]) | build(OVERLAYS[0]))
    plant(planted)
    (refusal,) = [each for each in refusals(planted) if expected in each]
    assert refusal.startswith(("Deployment", "Service", "Pod", "Horizontal", "Prometheus", "Scaled"))


def test_a_kind_of_another_version_is_refused() -> None:
    with pytest.raises(AssertionError, match="autoscaling/v2beta2"):
        schema_of({"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler"})


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (put("Service", "spec.selector", {"app": "another"}), "Service selects no pod"),
        (put("PodDisruptionBudget", "spec.selector.matchLabels", {"a": "b"}), "PodDisruptionBudget selects no pod"),
        (put("Service", "metadata.labels", {}), "ServiceMonitor selects no Service"),
        (put("Service", "spec.ports.0.name", "web"), "ServiceMonitor names no port of the Service"),
        (put("Service", "spec.ports.0.targetPort", "web"), "a probe or the Service names no port of the container"),
        (put("Deployment", "spec.template.spec.volumes", []), "volumes and mounts differ"),
        (put("Deployment", "metadata.name", "another"), "the autoscaler names no Deployment"),
    ],
)
def test_a_reference_that_leads_nowhere_is_noticed(
    built: dict[str, Document], plant: Callable[[dict[str, Document]], None], expected: str
) -> None:
    planted = copy.deepcopy(built)
    plant(planted)
    assert list(broken(planted)) == [expected]


def test_every_file_belongs_to_an_overlay_or_is_the_adapter_s() -> None:
    named = {
        (path.parent / name).resolve()
        for path in FOLDER.rglob("kustomization.yaml")
        for name in read(path)["resources"]
        if (path.parent / name).is_file()
    }
    others = {path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert others - named == {FOLDER / "prometheus-adapter.yaml"}


RULES = FOLDER.parent / "prometheus" / "alerts.yaml"


def rule_text(alerts: str) -> str:
    """What `prometheusrule.yaml` has to be for these alert rules: its own head, and they, indented."""
    head = (FOLDER / "base" / "prometheusrule.yaml").read_text(encoding="utf-8").splitlines(keepends=True)[:7]
    lines = alerts[alerts.index("\ngroups:") + 1 :].splitlines(keepends=True)
    return "".join([*head, *(f"  {line}" for line in lines)])


def test_kubernetes_has_the_alerts_that_prometheus_has() -> None:
    kept = (FOLDER / "base" / "prometheusrule.yaml").read_text(encoding="utf-8")
    assert kept == rule_text(RULES.read_text(encoding="utf-8")), "the comment in prometheusrule.yaml says how"
    assert build(FOLDER)["PrometheusRule"]["spec"] == read(RULES)


def test_an_alert_that_was_changed_in_one_place_alone_is_noticed() -> None:
    alerts = RULES.read_text(encoding="utf-8")
    assert alerts.count("> 0.025") == 1
    kept = (FOLDER / "base" / "prometheusrule.yaml").read_text(encoding="utf-8")
    assert kept != rule_text(alerts.replace("> 0.025", "> 0.05"))


def test_the_container_has_no_rights_that_it_does_not_need() -> None:
    spec = pod(build(FOLDER))
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_all_that_is_written_goes_to_a_volume() -> None:
    (container,) = pod(build(FOLDER))["containers"]
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    folders = [environment()[name] for name in ("RETORT_HOME", "BENTOML_HOME")]
    assert all(any(folder.startswith(f"{mount}/") for mount in mounts) for folder in folders)
    assert "/tmp" in mounts


def test_the_settings_exist_and_the_secrets_are_not_written_down() -> None:
    known = {f"RETORT_{field.upper()}" for field in ServeSettings.model_fields} | {"RETORT_HOME"}
    assert {name for name in environment() if name.startswith("RETORT_")} <= known
    assert not re.search(r"(DATABASE|REDIS)_URL", "".join(environment()))
    (container,) = pod(build(FOLDER))["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "retort"}}]


def test_the_threads_are_the_cpus_that_are_asked_for() -> None:
    (container,) = pod(build(FOLDER))["containers"]
    threads, workers = (int(environment()[f"RETORT_{name}"]) for name in ("THREADS", "WORKERS"))
    assert int(container["resources"]["requests"]["cpu"]) == threads * workers


def test_a_pod_is_given_the_time_that_draining_takes() -> None:
    drain_s, deadline_s = (int(environment()[f"RETORT_{name}_MS"]) / 1000 for name in ("DRAIN", "DEADLINE"))
    spec = pod(build(FOLDER))
    readiness = spec["containers"][0]["readinessProbe"]
    assert drain_s > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert spec["terminationGracePeriodSeconds"] > drain_s + deadline_s + LOG_CLOSE_S


def test_both_ways_of_scaling_have_the_same_limits_and_ask_for_metrics_that_exist() -> None:
    hpa, keda = (build(folder) for folder in OVERLAYS)
    spec, scaled = hpa["HorizontalPodAutoscaler"]["spec"], keda["ScaledObject"]["spec"]
    cpu, wait = spec["metrics"]
    keda_cpu, keda_wait = scaled["triggers"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (scaled["minReplicaCount"], scaled["maxReplicaCount"])
    assert str(cpu["resource"]["target"]["averageUtilization"]) == keda_cpu["metadata"]["value"]
    assert wait["pods"]["target"]["averageValue"] == f"{1000 * float(keda_wait['metadata']['threshold']):g}m"
    (rule,) = read(FOLDER / "prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == wait["pods"]["metric"]["name"]
    assert {name for query in [*scaling_queries(), rule["seriesQuery"]] for name in unknown_metrics(query)} == set()


def kubectl_version() -> tuple[int, int]:
    """Major and minor; (0, 0) without kubectl."""
    if shutil.which("kubectl") is None:
        return (0, 0)
    done = subprocess.run(["kubectl", "version", "--client", "--output=json"], capture_output=True, text=True)
    version = json.loads(done.stdout)["clientVersion"]
    return int(version["major"]), int(re.sub(r"\D", "", version["minor"]))


@pytest.mark.skipif(kubectl_version() < (1, 21), reason="expected kubectl 1.21 or newer; Debian 12 has 1.20")
@pytest.mark.parametrize("folder", OVERLAYS, ids=["autoscaler", "keda"])
def test_kubectl_puts_the_same_together(folder: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    assert {document["kind"]: document for document in yaml.safe_load_all(done.stdout)} == build(folder)
