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


@pytest.mark.parametrize(
    "value", ["2024-13-45", "2024-02-30", "!!int abc", "!!bool maybe", "!!timestamp soon", "!!int ''", "9" * 5000]
)
def test_a_value_that_is_none_of_its_kind_is_told_with_its_line(tmp_path: Path, value: str) -> None:
    assert "which is no" in fault(tmp_path, GOOD.replace("epochs: 2", f"epochs: {value}"))
    assert fault(tmp_path, GOOD.replace("epochs: 2", f"epochs: {value}")).startswith(
        f"{tmp_path}/demo.yaml:5: expected"
    )
    told = fault(tmp_path, GOOD, f"name={value}")
    assert told.startswith(f"--set name={value}: expected a YAML value after =, got")


@pytest.mark.parametrize("value", ["&a [*a]", "&a {b: *a}", "[" * 3000 + "]" * 3000])
def test_values_without_an_end_are_refused(tmp_path: Path, value: str) -> None:
    assert "demo.yaml: expected keys a few levels deep" in fault(tmp_path, f"{GOOD}card: {value}\n")


def test_a_value_without_an_end_in_an_override_is_refused(tmp_path: Path) -> None:
    assert "expected a YAML value after =" in fault(tmp_path, GOOD, "data=" + "[" * 3000 + "]" * 3000)


def test_digits_that_are_no_numbers_are_a_key_like_any_other(tmp_path: Path) -> None:
    assert "--set data.²=3: data.²: unknown key" in fault(tmp_path, GOOD, "data.²=3")
    assert "expected a number from 0 to 2" in fault(tmp_path, GOOD, f"compress.{'9' * 5000}.kind=export")


@pytest.mark.parametrize(
    ("override", "whole"),
    [
        ("gate.slices.0.by=class", "gate.slices=[{by: class}]"),
        ("notify.0=slack-webhook/ops", "notify=[slack-webhook/ops]"),
        ("more_teachers.0.model=x", "more_teachers=[{model: x}]"),
    ],
)
def test_an_item_of_an_empty_list_is_answered_with_the_list_to_give(tmp_path: Path, override: str, whole: str) -> None:
    assert f"--set {override}: " in (told := fault(tmp_path, GOOD, override))
    assert f"has no items; give it, as --set '{whole}'" in told
    load(tmp_path, GOOD, whole)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ('monitor:\n  schedule: "foo bar"\n', "monitor.schedule"),
        ('release:\n  experiment: {schedule: "foo bar"}\n', "release.experiment.schedule"),
    ],
)
def test_a_schedule_that_is_no_cron_is_refused_when_the_config_is_read(tmp_path: Path, section: str, key: str) -> None:
    assert f"demo.yaml:12: {key}: expected a cron schedule" in fault(tmp_path, GOOD + section)
    load(tmp_path, GOOD + section.replace("foo bar", "*/10 * * * *"))


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ("2", "compress.0.layers: input should be a valid list or 'spread', 'top' or 'searched', got 2"),
        ("[0, x]", "compress.0.layers.1: input should be a valid integer, got 'x'"),
    ],
)
def test_a_value_of_several_forms_is_one_line_in_the_words_of_the_file(tmp_path: Path, layers: str, told: str) -> None:
    found = fault(tmp_path, GOOD.replace("layers: [0, 2]", f"layers: {layers}"))
    assert found == f"{tmp_path}/demo.yaml:7: {told}"


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
