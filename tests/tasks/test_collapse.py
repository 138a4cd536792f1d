from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bento.errors import RetortError
from tasks import collapse
from tasks.collapse import at_chance, check_not_collapsed, check_teacher, correlation, kappa
from tasks.compress.context import Context
from tasks.store import NotMadeError, only_looking, run_step
from tasks.task_types import MultiLabel, SingleLabel
from tasks.types import Section


def one_hot(labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[labels_N]


def test_always_the_largest_class_is_chance_however_large_it_is() -> None:
    labels = np.array([0] * 450 + [1] * 50)
    assert at_chance(np.zeros(500, dtype=int), labels)


def test_a_rare_class_that_is_found_is_not_chance() -> None:
    labels = np.array([0] * 475 + [1] * 25)
    found = labels.copy()
    found[480:490] = 0
    assert not at_chance(found, labels)


def test_kappa_is_cohens() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed .7, expected .5, kappa .4
    mine = np.array([1] * 25 + [0] * 25)
    other = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert kappa(mine, other) == pytest.approx(0.4)


def test_a_teacher_that_learnt_nothing_stops_the_build() -> None:
    labels = np.arange(300) % 3
    with pytest.raises(RetortError, match=r"teacher: collapsed: accuracy 0\.333 on 300"):
        check_teacher(one_hot(np.zeros(300, dtype=int), 3), labels, SingleLabel())
    check_teacher(one_hot(labels, 3), labels, SingleLabel())


@pytest.mark.parametrize(("num_rows", "num_right"), [(10, 9), (40, 30)])
def test_good_answers_to_few_rows_stop_nothing_though_chance_could_give_them(num_rows: int, num_right: int) -> None:
    labels = np.arange(num_rows) % 2
    found = np.where(np.arange(num_rows) < num_right, labels, 1 - labels)
    assert at_chance(found, labels)
    check_teacher(one_hot(found, 2), labels, SingleLabel())
    with pytest.raises(RetortError, match="teacher: collapsed"):
        check_teacher(one_hot(np.zeros(num_rows, dtype=int), 2), labels, SingleLabel())
    scores_N1 = np.arange(6.0)[:, None]
    check_teacher(scores_N1 + np.array([1, 0, 0, -1, 1, 0])[:, None], scores_N1, MultiLabel())


@pytest.mark.parametrize(("num_right", "collapsed"), [(7, False), (5, True)])
def test_a_student_on_few_rows_has_collapsed_only_with_half_of_its_teachers_agreement_gone(
    able: Context, monkeypatch: pytest.MonkeyPatch, num_right: int, collapsed: bool
) -> None:
    monkeypatch.setattr(collapse, "_evenly", lambda num_rows: np.linspace(0, num_rows - 1, 9).round().astype(int))
    monkeypatch.setattr(collapse, "torch_logits", lambda *_: _nearly_right(able, num_right))
    if not collapsed:
        check_not_collapsed(able.teacher.path, "torch", "distil", able)
        return
    with pytest.raises(RetortError, match="distil: collapsed"):
        check_not_collapsed(able.teacher.path, "torch", "distil", able)


def _nearly_right(able: Context, num_right: int) -> np.ndarray:
    """Answers to the nine chosen rows: those behind the first `num_right` are another class."""
    rows = np.load(able.teacher_logits.path / "validation.npy")
    chosen_NC = rows[np.linspace(0, len(rows) - 1, 9).round().astype(int)]
    chosen_NC[num_right:] = np.roll(chosen_NC[num_right:], 1, axis=1)
    return chosen_NC


class Ruin(Section):
    """A planted fault: a technique that zeroes the classifier."""

    kind: str = "ruin"
    produces: str = "torch"


def test_a_technique_after_which_all_answers_are_alike_is_named_and_leaves_nothing(
    able: Context,
) -> None:
    def ruin(out: Path, work: Path) -> None:
        from tasks.architecture import load_classifier

        model = load_classifier(able.teacher.path)
        model.classifier.weight.data.zero_()
        model.save_pretrained(out)
        for path in able.teacher.path.glob("*token*"):
            (out / path.name).write_bytes(path.read_bytes())

    with pytest.raises(RetortError, match=r"ruin: collapsed: .* its teacher"):
        able.step(Ruin(), able.teacher, ruin)
    with only_looking(), pytest.raises(NotMadeError):
        able.step(Ruin(), able.teacher, ruin)


@pytest.fixture(scope="module")
def able(context: Context) -> Context:
    """The tiny teacher, with answers recorded for it that are right, as a trained one's would be."""
    from tasks.data import read_labels, read_split

    def right(out: Path, work: Path) -> None:
        for name in ("train", "validation"):
            split = read_split(context.data.path, name)
            index = {label: at for at, label in enumerate(read_labels(context.data.path))}
            np.save(out / f"{name}.npy", one_hot(np.array([index[label] for label in split.labels]), 3) * 9)

    made = run_step("right", kind="logits", inputs=[context.data], config={}, code="tasks.types", make=right)
    return replace(context, teacher_logits=made.artifact)


def test_label_sets_at_chance_are_those_that_only_know_how_frequent_a_label_is() -> None:
    rng = np.random.default_rng(0)
    truth_NC = (rng.random((300, 5)) < np.array([0.6, 0.3, 0.1, 0.1, 0.05])).astype(np.float32)
    frequent_NC = np.log(truth_NC.mean(axis=0)) + rng.normal(size=truth_NC.shape) * 0.1
    with pytest.raises(RetortError, match=r"teacher: collapsed: micro_f1 0\.\d+ on 300"):
        check_teacher(frequent_NC, truth_NC, MultiLabel())
    check_teacher(frequent_NC + truth_NC, truth_NC, MultiLabel())


def test_scores_that_are_all_alike_are_at_chance() -> None:
    truth_N1 = np.random.default_rng(1).random((200, 1))
    assert correlation(np.full((200, 1), 0.4), truth_N1) == (0.0, 1.0)
    assert correlation(truth_N1 * 3 - 1, truth_N1)[0] == pytest.approx(1)
