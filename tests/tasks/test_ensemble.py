import numpy as np
import pytest

from bento.task_types import softmax
from tasks import training
from tasks.compress.context import Context
from tasks.ensemble import ensemble_logits, torch_logits
from tasks.task_types import SingleLabel

TEXTS = ["the car is red", "a blue lamp"]


def test_one_teacher_answers_with_its_own_logits(context: Context) -> None:
    folder = context.teacher.path
    assert np.array_equal(ensemble_logits([folder], TEXTS, 16, SingleLabel()), torch_logits(folder, TEXTS, 16))


def test_several_answer_with_their_mean_probability(context: Context, tmp_path) -> None:
    import shutil

    from tasks.architecture import load_classifier

    other = tmp_path / "other"
    shutil.copytree(context.teacher.path, other)
    model = load_classifier(other)
    model.classifier.weight.data *= -3
    model.save_pretrained(other)
    folders = [context.teacher.path, other]
    mean = np.mean([softmax(torch_logits(folder, TEXTS, 16)) for folder in folders], axis=0)
    assert np.allclose(softmax(ensemble_logits(folders, TEXTS, 16, SingleLabel())), mean, atol=1e-6)


def test_a_long_answer_tells_how_far_it_is(
    context: Context, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level("INFO", logger="retort.training"):
        torch_logits(context.teacher.path, TEXTS, 16)
        assert not caplog.messages
        monkeypatch.setattr(training, "TELL_EVERY_S", 0)
        torch_logits(context.teacher.path, TEXTS, 16)
    assert caplog.messages[0].startswith("2 of 2 texts answered, ")
