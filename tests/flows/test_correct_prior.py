"""A mix-only drift from the log to a new champion: what is promoted, what is refused, and how it is undone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bento.errors import UserError
from bento.manifest import Manifest, folder_sha256
from bento.predictor import Predictor
from flows import correct_prior as module
from flows.cli_correct import read_prior
from flows.config import Config, load_config
from tasks.calibrate import AbstainConfig
from tasks.monitor import looks
from tasks.release import ledger, tracking
from tasks.store import Step
from tests.mixed import LABELS, World, bless, make_world, serve

pytestmark = pytest.mark.filterwarnings("default")

SHIFTED = (0.8, 0.1, 0.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        root = tmp_path_factory.mktemp("mixed")
        monkeypatch.setenv("RETORT_HOME", str(root / "home"))
        yield make_world(root)


@pytest.fixture
def world(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The store is shared; log, ledger and champion are the test's own."""
    monkeypatch.setenv("RETORT_DATABASE_URL", f"sqlite:///{tmp_path / 'retort.db'}")
    for name in ("point_alias", "repair_alias"):
        monkeypatch.setattr(tracking, name, lambda *args: None)
    serve(made.base, "1")
    return replace(made, rng=np.random.default_rng(2))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({"name": "tiny", "data": {"source": "rows"}, "compress": [{"kind": "export"}]}), encoding="utf-8"
    )
    return load_config(path, [])


@pytest.fixture(autouse=True)
def released(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """Bento and boot check, and MLflow too where no test looks at it: each model gets the next version, blessed."""
    versions: list[str] = []

    def prepare_release(candidate: Any) -> tuple[Any, None]:
        if candidate.model.sha256 not in versions:
            versions.append(candidate.model.sha256)
        return bless(candidate.model, str(versions.index(candidate.model.sha256) + 2)), None

    monkeypatch.setattr(module, "prepare_release", prepare_release)
    if "registry" not in request.fixturenames:
        monkeypatch.setattr(module, "_log", lambda *args: "run")
        monkeypatch.setattr(tracking, "tag_outcome", lambda *args: None)
    return versions


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


def correct(config: Config, prior: Any = SHIFTED) -> dict[str, Any]:
    shares = dict(zip(LABELS, prior, strict=True)) if prior is not None else None
    return module.correct(config, shares, "the mix moved", stage=lambda _, function: function)


def accuracy(model: Path, texts: list[str], labels: list[str]) -> float:
    predictor = Predictor(model)
    said = predictor.answers(texts, predictor.predict(texts, batch_size=256))["label"]
    return float(np.mean(np.array(said) == np.array(labels)))


def test_a_correction_is_promoted_and_gains_on_traffic_that_comes_after(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    found = correct(config)
    assert found["outcome"] == "promoted", found["verdicts"]
    champion = ledger.read_champion("tiny")
    assert champion is not None
    assert (champion.version, champion.model_sha256) == (found["champion"], found["model_sha256"])
    assert folder_sha256(champion.model_path) == champion.model_sha256 != world.base.sha256
    manifest = Manifest.read(champion.model_path)
    assert manifest.lineage["uncorrected"] == world.base.sha256
    assert manifest.files == Manifest.read(world.base.path).files
    texts, labels = world.texts(2_000, SHIFTED)
    assert accuracy(champion.model_path, texts, labels) > accuracy(world.base.path, texts, labels) + 0.02
    entry = ledger.history("tiny")[0]
    assert (entry["action"], entry["why"]) == ("promote", "the mix moved")
    assert {verdict["gate"] for verdict in entry["evidence"]["verdicts"]} >= {"accuracy_at_mix", "log_loss_at_mix"}


def test_run_twice_the_second_changes_nothing(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    first = correct(config)
    world.send(1_000, SHIFTED)  # what the corrected champion answers
    again = correct(config)
    assert first["outcome"] == "promoted"
    assert again["outcome"] in ("promoted", "inconclusive", "blocked")
    champion = ledger.read_champion("tiny")
    assert champion is not None
    assert champion.model_sha256 == first["model_sha256"]


def test_a_correction_that_was_rolled_back_is_not_made_again_by_itself(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    first = ledger.read_champion("tiny")
    assert correct(config)["outcome"] == "promoted"
    corrected = ledger.read_champion("tiny")
    assert first is not None
    assert ledger.swap_champion(first, expected=corrected, action="rollback", who="ada", why="worse", evidence={})
    again = correct(config)
    assert (again["outcome"], again["rolled_back"].split(", ")[-1]) == ("blocked", "was rolled back by ada: worse")
    assert ledger.read_champion("tiny") == first


def test_a_wrong_prior_is_refused_by_what_the_traffic_itself_shows(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    found = correct(config, (0.1, 0.1, 0.8))
    assert found["outcome"] == "blocked"
    assert ledger.read_champion("tiny").model_sha256 == world.base.sha256  # type: ignore[union-attr]
    assert {v["gate"]: v["outcome"] for v in found["verdicts"]}["log_loss_at_mix"] == "fail"


def test_traffic_in_the_old_mix_needs_no_correction(world: World, config: Config) -> None:
    world.send(1_000)
    shares = np.array([Manifest.read(world.base.path).labels.index(label) for label in LABELS])
    before = module.mix.held_out_shares(world.data, LABELS)[shares]
    found = correct(config, tuple(before))
    assert (found["outcome"], found["unchanged"]) == ("promoted", True)


def test_a_correction_does_not_stack_and_is_taken_back_exactly_when_the_mix_returns(
    world: World, config: Config
) -> None:
    world.send(1_000, SHIFTED)
    correct(config)
    world.send(1_000, (0.1, 0.1, 0.8))
    second = correct(config, (0.1, 0.1, 0.8))
    assert second["outcome"] == "promoted", second["verdicts"]
    manifest = Manifest.read(Path(second["model_path"]))
    assert manifest.lineage["uncorrected"] == world.base.sha256
    assert manifest.prior is not None
    assert manifest.prior.before == pytest.approx(module.mix.held_out_shares(world.data, LABELS), abs=1e-5)
    world.send(1_000)
    back = correct(config, tuple(module.mix.held_out_shares(world.data, LABELS)))
    assert (back["outcome"], back["restored"]) == ("promoted", True)
    assert ledger.read_champion("tiny").model_sha256 == world.base.sha256  # type: ignore[union-attr]


def test_without_a_prior_the_newest_look_gives_it(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    with pytest.raises(UserError, match="no look"):
        correct(config, None)
    evidence = {"drift": {"prior_window": dict(zip(LABELS, SHIFTED, strict=True))}}
    looks.store_look(
        {"name": "tiny", "state": "mix_only", "action": "correct_prior", "reason": "", "key": "k",
         "evidence": evidence, "payload": None}
    )  # fmt: skip
    assert correct(config, None)["outcome"] == "promoted"


def test_few_rows_or_another_set_of_classes_are_errors_in_words(world: World, config: Config) -> None:
    with pytest.raises(UserError, match="at least 200 distinct texts"):
        correct(config)
    world.send(300, SHIFTED)
    nan = dict.fromkeys(LABELS, float("nan"))
    for prior in ({"refund": 1.0}, {}, nan, dict.fromkeys(LABELS, 0.0) | {"refund": float("nan")}):
        with pytest.raises(UserError, match="a share for each of"):
            module.correct(config, prior, "", stage=lambda _, function: function)


def test_a_person_promotes_where_the_config_says_so(world: World, config: Config) -> None:
    world.send(1_000, SHIFTED)
    asked = config.model_copy(update={"release": config.release.model_copy(update={"approval": "require"})})
    found = correct(asked)
    assert (found["outcome"], found["champion"]) == ("awaiting_approval", "1")
    assert ledger.read_champion("tiny").version == "1"  # type: ignore[union-attr]


@pytest.mark.usefixtures("registry")
def test_the_mlflow_run_shows_the_old_and_the_new_mix_once(world: World, config: Config) -> None:
    from mlflow import MlflowClient

    world.send(1_000, SHIFTED)
    run_id = correct(config)["mlflow_run_id"]  # which points MLflow at this test's store
    run = MlflowClient().get_run(run_id)
    assert run.data.metrics["prior_new/card_lost"] == pytest.approx(0.8, abs=0.02)
    assert run.data.metrics["prior_old/card_lost"] == pytest.approx(
        module.mix.held_out_shares(world.data, LABELS)[0], abs=1e-3
    )
    assert run.data.tags["retort.outcome"] == "promoted"
    assert run.info.run_name == "correct-prior tiny"


def test_a_prior_is_read_from_json_or_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"a": 1}), encoding="utf-8")
    assert read_prior(path) == {"a": 1.0}
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match="JSON object"):
        read_prior(path)


def test_the_step_is_cached(world: World, config: Config) -> None:
    steps: list[Step] = []
    kept = {"before_C": np.full(3, 1 / 3), "shares_C": np.array(SHIFTED), "num_rows": 500, "abstain": None}
    steps += [module.mix.correct(world.base, world.data, **kept) for _ in range(2)]  # type: ignore[arg-type]
    assert steps[1].cached


def test_a_fitted_threshold_of_abstention_keeps_its_coverage_in_the_new_mix(world: World) -> None:
    kept = {"before_C": module.mix.held_out_shares(world.data, LABELS), "shares_C": np.array(SHIFTED), "num_rows": 500}
    rule = AbstainConfig(min_coverage=0.7)
    model = module.mix.correct(world.base, world.data, **kept, abstain=rule).artifact  # type: ignore[arg-type]
    predictor = Predictor(model.path)
    texts, _ = world.texts(1_500, SHIFTED)
    assert 1 - predictor.abstains(predictor.predict(texts, batch_size=256)).mean() == pytest.approx(0.7, abs=0.06)
