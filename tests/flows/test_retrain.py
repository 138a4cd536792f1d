"""A retrain on a small real set: a class that did not exist is learnt, and the champion that cannot say it loses."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from bento.manifest import Manifest
from bento.predictor import Predictor
from bento.records import add_feedback
from flows import summary as summaries
from flows.chain import Built, gate, make_candidate, make_context
from flows.config import Config
from tasks.data import FRESH, read_split, read_times, read_unlabelled
from tasks.distillation import _training_rows
from tasks.monitor.retrain_data import assemble
from tasks.release.ledger import Champion
from tasks.task_types import UNLABELLED
from tests.logged import row, store
from tests.small import COLOURS, NOUNS, colours_build

NEW = "violet"


def _build(config: Config, more: Any = None) -> Built:
    return make_candidate(config, None, stage=lambda _name, function: function, more=more)


def _log_traffic() -> None:
    """Sentences of another form, in a new colour too, all drawn for audit; three of four are labelled."""
    rows = [
        (f"{form} {colour} {noun}", colour)
        for form in ("see this", "we like the", "what about a")
        for colour in (*COLOURS, NEW)
        for noun in NOUNS
    ]
    store(*(row(f"r{at}", name="colours", text=text, audit=True) for at, (text, _) in enumerate(rows)))
    for at, (_, colour) in enumerate(rows):
        if at % 4:
            add_feedback("colours", f"r{at}", 0, colour, 1500.0 + at)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The config, the first build, its champion, and the retrain."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("retrain")
    patch.setenv("RETORT_HOME", str(folder / "home"))
    patch.delenv("RETORT_DATABASE_URL", raising=False)
    tree = colours_build(folder) | {"gate": {"accuracy": {"margin": 0.3}, "min_rows": 20}}
    first = _build(Config.model_validate(tree))
    fewer = {"epochs": 6}  # of more rows
    tree["teacher"] |= fewer
    tree["compress"][1] |= fewer
    asked = {"fresh": {"min_rows": 20, "margin": 0.2}, "min_new_class_rows": 10, "weight": 2}
    config = Config.model_validate(tree | {"retrain": asked})
    champion = Champion(
        name="colours", version="1", model_sha256=first.model.sha256, model_path=first.model.path, bento="colours:1"
    )
    _log_traffic()
    again = _build(config, assemble("colours", config.retrain).artifact)
    yield config, first, champion, again
    patch.undo()


def test_a_class_that_did_not_exist_is_learnt_and_known_to_everything_after(builds: Any) -> None:
    _, first, _, again = builds
    assert NEW not in Predictor(first.model.path).labels
    predictor = Predictor(again.model.path)
    assert predictor.labels == tuple(sorted((*COLOURS, NEW)))
    fresh = read_split(again.data.path, FRESH)
    said = [predictor.labels[at] for at in predictor.predict(list(fresh.texts)).argmax(axis=1)]
    right = [answer == truth for answer, truth in zip(said, fresh.labels, strict=True) if truth == NEW]
    assert len(right) >= 5
    assert sum(right) > 0.8 * len(right)


def test_students_see_newly_labelled_rows_more_often_and_recent_texts_without_a_label(builds: Any) -> None:
    config, _, _, again = builds
    made = {step.name: step.artifact for step in again.steps}
    context = make_context(config, again.data, [made["teacher"]], made["teacher_logits"])
    tokenizer = AutoTokenizer.from_pretrained(made["prune_vocabulary"].path)
    rows = _training_rows(tokenizer, config.compress[1], context, context.task, words=False)
    num_texts = len(read_unlabelled(again.data.path))
    times_N = read_times(again.data.path)
    assert (rows.targets["label"] == UNLABELLED).sum() == num_texts
    assert len(rows) == times_N.sum() + num_texts
    assert set(times_N) == {1, config.retrain.weight}


def test_the_gate_has_the_frozen_test_and_the_fresh_traffic_against_teacher_and_champion(builds: Any) -> None:
    config, _, champion, again = builds
    verdicts = {verdict.gate: verdict for verdict in gate(config, again, champion).verdicts}
    fresh = read_split(again.data.path, FRESH)
    for name in ("teacher", "champion"):
        assert verdicts[f"fresh_accuracy_vs_{name}"].n == len(fresh)
        assert verdicts[f"accuracy_vs_{name}"].n == 36
    assert verdicts["fresh_accuracy_vs_champion"].outcome == "pass"
    assert verdicts["fresh_holdout_uses"].observed >= 1
    share = sum(label == NEW for label in fresh.labels) / len(fresh)
    assert verdicts["fresh_accuracy_vs_champion"].observed >= share - 0.1, "the champion is wrong on the new class"


def test_few_fresh_rows_promote_nothing_and_say_how_many_are_needed(builds: Any) -> None:
    config, _, champion, again = builds
    strict = config.model_copy(
        update={
            "retrain": config.retrain.model_copy(
                update={"fresh": config.retrain.fresh.model_copy(update={"min_rows": 1000})}
            )
        }
    )
    report = gate(strict, again, champion)
    verdict = next(found for found in report.verdicts if found.gate == "fresh_accuracy_vs_champion")
    assert (verdict.outcome, verdict.needed_n) == ("inconclusive", 1000)
    assert report.outcome != "pass"


def test_the_summary_and_the_manifest_say_how_many_rows_came_from_where(builds: Any) -> None:
    config, first, champion, again = builds
    found = summaries.summarise(config, again, gate(config, again, champion), champion, command="retort retrain")
    told = found["retrain"]
    assert told["new_classes"].keys() == {NEW}
    assert told["num_texts"] == len(read_unlabelled(again.data.path)) > 0
    assert Manifest.read(again.model.path).lineage["retrain"]["num_fresh"] == told["num_fresh"] > 20
    assert f"new classes: {NEW}" in summaries.markdown(found | {"version": None}, "blocked")
    assert "retrain" not in Manifest.read(first.model.path).lineage


def test_the_page_of_a_retrain_lists_the_fresh_rows_and_the_new_class(builds: Any) -> None:
    config, _, champion, again = builds
    found = summaries.summarise(config, again, gate(config, again, champion), champion, command="retort retrain")
    page = summaries.write_report(found, again).read_text(encoding="utf-8")
    assert "fresh rows beside the frozen test; new classes: violet" in page
    assert f"classes that the source does not have are learnt from labelled traffic: {NEW}" in page


def test_a_retrain_without_a_champion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bento.errors import UserError
    from flows.retrain import retrain
    from tests.terminal import SMOKE

    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    with pytest.raises(UserError, match="no champion, so no traffic"):
        retrain.fn(str(SMOKE))
