"""The shipped policies are read as Kubernetes reads them; what cannot be simulated is refused."""

from pathlib import Path

import pytest
import yaml

from bento.errors import UserError
from tasks.capacity.policy import DEFAULT_UP, Rule, quantity, read_policy

FOLDER = Path(__file__).parents[3] / "configs" / "kubernetes"
HPA, KEDA = FOLDER / "horizontalpodautoscaler.yaml", FOLDER / "keda" / "scaledobject.yaml"


def test_both_shipped_policies_are_read_and_decide_alike():
    hpa, keda = read_policy(HPA), read_policy(KEDA)
    assert (hpa.name, keda.name) == ("HPA", "KEDA")
    spec = yaml.safe_load(HPA.read_text(encoding="utf-8"))["spec"]
    assert (hpa.min_replicas, hpa.max_replicas) == (spec["minReplicas"], spec["maxReplicas"])
    assert hpa.cpu_target == spec["metrics"][0]["resource"]["target"]["averageUtilization"] / 100
    fields = ("min_replicas", "max_replicas", "cpu_target", "wait_target_s", "up", "down")
    assert [getattr(hpa, field) for field in fields] == [getattr(keda, field) for field in fields]


def test_what_a_file_leaves_out_is_kubernetes_default(tmp_path):
    path = tmp_path / "hpa.yaml"
    path.write_text(
        "kind: HorizontalPodAutoscaler\n"
        "spec: {maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {averageUtilization: 50}}}]}",
        encoding="utf-8",
    )
    found = read_policy(path)
    assert (found.min_replicas, found.up, found.wait_target_s) == (1, DEFAULT_UP, None)
    assert (found.down.stabilisation_s, found.down.rules) == (300, (Rule(kind="Percent", value=100, period_s=15),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: Deployment", "got Deployment"),
        ("[1, 2]", "got None"),
        ("{", "got: while parsing"),
        ("kind: ScaledObject\nspec: {maxReplicaCount: 2}", "something is missing or wrong: KeyError"),
        (
            "kind: ScaledObject\nspec: {maxReplicaCount: 2, triggers: [{type: kafka, metadata: {}}]}",
            "it cannot be simulated",
        ),
    ],
)
def test_what_is_no_policy_or_scales_by_something_else_is_refused(tmp_path, text, expected):
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        read_policy(path)


def test_a_quantity_has_kubernetes_suffixes():
    assert [quantity(text) for text in ("5m", "2", "1500m", 3, "2k")] == [0.005, 2, 1.5, 3, 2000]
    for wrong in ("5x", "", "m"):
        with pytest.raises((ValueError, KeyError)):
            quantity(wrong)
