from pathlib import Path

import pytest

from bento.errors import ConfigError
from flows.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
GOOD = """\
name: demo
data:
  source: synthetic
teacher:
  epochs: 2
compress:
  - {kind: distil, layers: [0, 2]}
  - {kind: export}
  - {kind: quantize}
gate:
  accuracy: {margin: 0.02}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> object:
    path = tmp_path / "demo.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, list(overrides))


def fault(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_says_how_to_use_local_files(path: Path) -> None:
    assert load_config(path).name == path.stem
    assert "--set data.source=" in path.read_text(encoding="utf-8")


def test_an_unknown_key_names_the_line_and_the_nearest_key(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("epochs: 2", "epoch: 2"))
    assert "demo.yaml:5: teacher.epoch: unknown key; did you mean 'epochs'?" in found


def test_an_unknown_key_in_a_technique_is_found_on_its_line(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("layers: [0, 2]", "layer: [0, 2]"))
    assert "demo.yaml:7: compress.0.layer: unknown key; did you mean 'layers'?" in found


def test_a_wrong_type_says_expected_and_got(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("epochs: 2", "epochs: many"))
    assert "demo.yaml:5: teacher.epochs:" in found
    assert "valid integer, got 'many'" in found


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("epochs: 2", "epochs: many").replace("name: demo", "nam: demo"))
    assert len(found.splitlines()) == 3


def test_an_impossible_chain_says_what_to_put_between(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("  - {kind: export}\n", ""))
    assert "demo.yaml:6: compress[1] 'quantize' consumes onnx, but compress[0] 'distil' produces torch" in found


def test_an_unknown_technique_lists_those_there_are(tmp_path: Path) -> None:
    found = fault(tmp_path, GOOD.replace("kind: quantize", "kind: shrink"))
    assert "demo.yaml:9" in found
    assert "distil" in found


def test_overrides_reach_sections_and_list_items(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, "teacher.epochs=7", "compress.0.temperature=3.5", "monitor.looks=30")
    assert config.teacher.epochs == 7  # type: ignore[attr-defined]
    assert config.compress[0].temperature == 3.5  # type: ignore[attr-defined]
    assert config.monitor.looks == 30  # type: ignore[attr-defined]


@pytest.mark.parametrize("override", ["teacher.epochs", "=3", "compress.9.kind=export", "name.x=1"])
def test_an_override_that_cannot_be_is_named(tmp_path: Path, override: str) -> None:
    assert f"--set {override}" in fault(tmp_path, GOOD, override)


def test_a_wrong_override_is_named_instead_of_a_line(tmp_path: Path) -> None:
    assert fault(tmp_path, GOOD, "teacher.epochs=soon").startswith("--set teacher.epochs=soon: teacher.epochs:")


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "demo.yaml:12: name is given twice" in fault(tmp_path, GOOD + "name: other\n")


@pytest.mark.parametrize(
    ("text", "expected"), [("", "expected keys"), ("- 1\n", "expected keys"), ("a: [1\n", "expected YAML")]
)
def test_what_is_no_config_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    found = fault(tmp_path, text)
    assert expected in found
    assert "demo.yaml:" in found


def test_a_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no such file; .* has real\.yaml"):
        load_config(tmp_path / "reel.yaml")


def test_the_name_of_a_model_is_answered_with_its_config() -> None:
    with pytest.raises(ConfigError, match=r"quickstart: expected a YAML .*; did you mean configs/quickstart\.yaml\?"):
        load_config(Path("quickstart"))


def test_the_config_is_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "errors:\n  costs:\n    - {lable: x, cost: 2}\n",
            "demo.yaml:14: errors.costs.0.lable: unknown key; did you mean 'label'?",
        ),
        ("serve:\n  abstain: {labels: [oos]}\n", "serve.abstain: expected exactly one of threshold, max_risk"),
        ("behaviour:\n  invariance: [spelling]\n", "demo.yaml:13: behaviour.invariance.0: input should be 'typos'"),
        ("behaviour:\n  directional:\n    - {name: n, label: x, moves: up}\n", "'n' changes nothing"),
    ],
)
def test_a_fault_in_a_list_of_the_evidence_is_found_on_its_line(tmp_path: Path, section: str, expected: str) -> None:
    assert expected in fault(tmp_path, GOOD + section)


def test_a_limit_on_behavioural_tests_that_are_not_there_is_refused(tmp_path: Path) -> None:
    limited = GOOD.replace("accuracy: {margin: 0.02}", "behaviour: {directional: 0.1}")
    assert "expected tests in behaviour.directional, got none" in fault(tmp_path, limited)
