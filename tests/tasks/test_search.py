"""The search: what is sketched, what is trained, what is chosen, and that a kill costs nothing."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bento.errors import RetortError, UserError
from tasks import search as searching
from tasks.compress import check_chain
from tasks.compress.context import Context
from tasks.search import one_after_another, read_search, search
from tasks.search import trials as trial_module
from tasks.search.choice import choose, pareto_front, with_front
from tasks.search.space import SearchConfig, chain_of
from tasks.search.trials import Proposed, Trial
from tests.tasks.compress.test_distil import MINILM

PLAIN: dict[str, Any] = {
    "speedup": 1.0, "sparsity": 0.0, "scheme": "int8_dynamic", "weight_bits": 8, "embedding_bits": 8
}  # fmt: skip
TINY: dict[str, Any] = {
    "trials": 4, "num_layers": [1, 2], "intermediate_size": [16, 64], "scheme": ["int8_dynamic"],
    "accuracy_drop": 0.9, "distil": {"epochs": 1, "transfer": None},
}  # fmt: skip


def trial(number: int, accuracy: float | None, latency_ms: float, size_mb: float, **more: Any) -> Trial:
    return Trial(
        number=number, point=PLAIN | more.get("point", {}), state="trained" if accuracy is not None else "cannot_win",
        accuracy=accuracy, latency_ms=latency_ms, size_mb=size_mb, probe=more.get("probe", 0.5),
    )  # fmt: skip


def test_the_front_is_what_nothing_beats() -> None:
    rows = [(1, 1), (2, 0), (0, 2), (0, 0), (1, 0), (2, 0)]
    brute = [
        not any(all(b >= a for a, b in zip(row, other, strict=True)) and other != row for other in rows) for row in rows
    ]
    assert pareto_front(rows) == brute == [True, True, True, False, False, True]


def test_only_trained_points_are_on_the_front() -> None:
    found = with_front([trial(0, 0.9, 1.0, 5), trial(1, None, 0.1, 1), trial(2, 0.8, 2.0, 6), trial(3, 0.8, 0.5, 6)])
    assert [one.on_front for one in found] == [True, False, False, True]


def test_the_fastest_within_all_limits_is_chosen_and_the_words_say_what_was_passed_over() -> None:
    trials = [trial(0, 0.92, 2.0, 8), trial(1, 0.915, 1.0, 6), trial(2, 0.90, 0.5, 3), trial(3, 0.95, 0.8, 20)]
    config = SearchConfig(accuracy_drop=0.01, size_mb=10)
    best, words = choose(config, trials, 0.92)
    assert best.number == 1
    assert "Point 1 answers soonest of the 2 that keep every limit" in words
    assert "not accurate enough: point 2 (accuracy 0.9000, 0.50 ms, 3.00 MB)" in words
    assert choose(config.model_copy(update={"prefer": "accuracy"}), trials, 0.92)[0].number == 0
    assert choose(config.model_copy(update={"prefer": "size", "accuracy_drop": 0.05}), trials, 0.92)[0].number == 2


def test_without_a_point_within_the_limits_the_most_accurate_is_taken_and_it_is_said() -> None:
    best, words = choose(SearchConfig(accuracy_drop=0.0), [trial(0, 0.8, 1, 1), trial(1, 0.7, 0.5, 1)], 0.9)
    assert best.number == 0
    assert "none kept the accuracy of 0.9000" in words


def test_nothing_trained_is_an_error_with_the_reasons() -> None:
    beyond = replace(trial(0, None, 9, 9), state="beyond_limits", why="9.00 MB, more than 5")
    with pytest.raises(RetortError, match=r"none of 1 points could be trained .0: 9\.00 MB, more than 5.; widen"):
        choose(SearchConfig(), [beyond], 0.9)


def proposed(number: int, least_accuracy: float, *known: Trial) -> Proposed:
    return Proposed(number=number, point={}, known=known, least_accuracy=least_accuracy)


def test_a_point_that_a_trained_one_beats_in_all_that_is_known_is_not_trained(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketched = trial(7, None, 1.0, 5.0, probe=0.4)
    monkeypatch.setattr(trial_module, "_sketch", lambda *_: sketched)
    monkeypatch.setattr(trial_module, "_train", lambda *_: pytest.fail("it was trained"))
    better = trial(1, 0.9, 0.9, 5.0, probe=0.5)
    found = trial_module.run_trial(SearchConfig(), context, proposed(7, 0.95, better))
    assert (found.state, found.why) == ("cannot_win", "point 1 is better in all that is known")
    found = trial_module.run_trial(SearchConfig(latency_ms=0.5), context, proposed(7, 0.9))
    assert (found.state, found.why) == ("beyond_limits", "1.00 ms, more than 0.5")


@pytest.mark.parametrize(
    ("lossier", "accuracy", "prefer", "state"),
    [
        ({"sparsity": 0.9}, 0.8, "latency", "trained"),
        ({"speedup": 1.5}, 0.8, "latency", "trained"),
        ({"weight_bits": 4}, 0.8, "latency", "trained"),
        ({"embedding_bits": 4}, 0.8, "latency", "trained"),
        ({"scheme": "int8_static"}, 0.8, "latency", "trained"),
        ({"sparsity": 0.9}, 0.95, "latency", "cannot_win"),
        ({"sparsity": 0.9}, 0.95, "accuracy", "trained"),
        ({"scheme": "float16"}, 0.8, "latency", "cannot_win"),
    ],
)
def test_a_point_that_loses_more_behind_the_probe_beats_no_other_unless_it_is_accurate_enough(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    lossier: dict[str, Any],
    accuracy: float,
    prefer: Any,
    state: str,
) -> None:
    sketched = trial(7, None, 1.0, 5.0)
    monkeypatch.setattr(trial_module, "_sketch", lambda *_: sketched)
    monkeypatch.setattr(trial_module, "_train", lambda *_: replace(sketched, state="trained", accuracy=0.9))
    other = trial(1, accuracy, 1.0, 1.0, point=lossier)
    found = trial_module.run_trial(SearchConfig(prefer=prefer), context, proposed(7, 0.9, other))
    assert found.state == state


def test_a_technique_that_fails_is_a_failed_trial_with_its_reason(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Trial:
        raise RetortError("distil: collapsed")

    monkeypatch.setattr(trial_module, "_sketch", fail)
    found = trial_module.run_trial(SearchConfig(), context, proposed(3, 0.9))
    assert (found.state, found.why) == ("failed", "distil: collapsed")


def test_any_other_fault_of_one_point_is_a_failed_trial_too(
    context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Trial:
        raise IndexError("index out of range")

    monkeypatch.setattr(trial_module, "_sketch", fail)
    found = trial_module.run_trial(SearchConfig(), context, proposed(3, 0.9))
    assert (found.state, found.why) == ("failed", "IndexError: index out of range")
    assert caplog.records[0].exc_info, "with its traceback"


def test_a_process_that_dies_is_a_failed_trial(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module.sys, "executable", "false")
    found = trial_module.run_apart(SearchConfig(), context, proposed(3, 0.9))
    assert (found.state, found.why) == ("failed", "its process ended with 1; see the log above")


def test_points_that_all_failed_are_an_error_that_does_not_blame_the_limits() -> None:
    failed = [replace(trial(at, None, 9, 9), state="failed", why="IndexError: 3") for at in range(2)]
    with pytest.raises(RetortError, match=r"all 2 failed .0: IndexError: 3; 1: IndexError: 3.; the log"):
        choose(SearchConfig(), failed, 0.9)


def test_the_process_of_a_trial_ends_with_the_search_that_started_it() -> None:
    child = (
        "import os; from tasks.search.trials import _end_with; parent = os.getppid(); print(flush=True); "
        "_end_with(parent)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as search_process:
        assert search_process.stdout is not None
        search_process.stdout.readline()
        search_process.kill()
        assert search_process.stdout.read() == "", "the pipe closes when the child has ended too"


def test_a_point_becomes_a_chain() -> None:
    config = SearchConfig(distil={"temperature": 3.0, "transfer": {"copies": 2}})
    point = {
        "vocabulary": 0.99, "num_layers": 2, "hidden_size": None, "intermediate_size": 512, "num_heads": 6,
        "speedup": 1.5, "sparsity": 0.5, "scheme": "int8_static", "weight_bits": 8, "embedding_bits": 4, "threads": 2,
    }  # fmt: skip
    chain = chain_of(config, point)
    kinds = [technique.kind for technique in chain]
    assert kinds == ["prune_vocabulary", "distil", "prune_structure", "prune_weights", "export", "quantize", "pack"]
    assert (chain[1].num_layers, chain[1].intermediate_size, chain[1].num_heads) == (2, 512, 6)  # type: ignore[union-attr]
    assert chain[2].transfer == config.distil.transfer  # type: ignore[union-attr]


def test_zeros_in_4_bits_alone_are_not_packed() -> None:
    point = {name: choices[0] for name, choices in SearchConfig().space.items()} | {"sparsity": 0.5, "weight_bits": 4}
    for more, packed in (
        ({"embedding_bits": 8}, True),
        ({"embedding_bits": 4}, False),
        ({"embedding_bits": 4, "scheme": "float16"}, True),
    ):
        chain = chain_of(SearchConfig(), point | more)
        assert (chain[-1].kind == "pack") is packed
        check_chain(chain)


def test_a_space_that_the_teacher_cannot_fill_is_refused_before_any_compute() -> None:
    with pytest.raises(UserError, match="the teacher has 6 layers"):
        SearchConfig(num_layers=[3, 8]).check(MINILM)
    with pytest.raises(UserError, match="head size 32"):
        SearchConfig(hidden_size=[384, 100]).check(MINILM)
    with pytest.raises(ValueError, match="write the sizes to try under search"):
        SearchConfig(distil={"num_layers": 2})


@pytest.mark.parametrize(
    "space",
    [
        {"num_layers": [3, 0]},
        {"hidden_size": [384, 0]},
        {"intermediate_size": [7]},
        {"num_heads": [0, 2]},
        {"sparsity": [0.0, 1.5]},
        {"vocabulary": [1.5]},
        {"threads": [999]},
        {"speedup": [0.5]},
    ],
)
def test_a_value_that_no_technique_takes_is_refused_by_name(space: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=rf"{next(iter(space))}\.\d"):
        SearchConfig(**space)


def test_every_value_of_every_dimension_is_checked_with_the_sizes_that_it_meets() -> None:
    with pytest.raises(UserError, match=r"prune_structure\.speedup: expected less than"):
        SearchConfig(speedup=[1.0, 1000.0]).check(MINILM)
    with pytest.raises(UserError, match=r"a WordPiece tokenizer, got BPE"):
        SearchConfig(vocabulary=[0.99]).check(replace(MINILM, tokenizer="BPE"))
    few = SearchConfig(num_layers=[1], num_heads=[1], intermediate_size=[16], speedup=[1.0, 3.0])
    with pytest.raises(UserError, match=r"prune_structure\.speedup: expected less than 1"):
        few.check(MINILM)


def test_a_search_ends_in_a_chosen_chain_and_is_found_again(context: Context) -> None:
    step = search(SearchConfig(**TINY), context, one_after_another)
    found = read_search(step.artifact.path)
    assert len(found.trials) == 4
    assert len({str(one.point) for one in found.trials}) == 4, "no point is looked at twice"
    chosen = next(one for one in found.trials if one.number == found.chosen)
    assert chosen.state == "trained"
    assert f"Point {chosen.number} " in found.words
    assert [row["kind"] for row in found.chain] == ["distil", "export", "quantize"]
    assert search(SearchConfig(**TINY), context, one_after_another).cached


def test_a_killed_search_goes_on_with_the_trials_that_it_had(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SearchConfig(**(TINY | {"seed": 5}))
    numbers = itertools.count()

    def killed_at_the_third(calls: Sequence[Callable[[], Trial]], _: SearchConfig) -> list[Trial]:
        if next(numbers) == 2:
            raise KeyboardInterrupt
        return [call() for call in calls]

    monkeypatch.setattr(searching, "run_trial", _planted)
    with pytest.raises(KeyboardInterrupt):
        search(config, context, killed_at_the_third)
    finished = []

    def counted(calls: Sequence[Callable[[], Trial]], _: SearchConfig) -> list[Trial]:
        finished.extend(calls)
        return [call() for call in calls]

    step = search(config, context, counted)
    assert len(finished) == 2, "two of four were done before the kill"
    assert len(read_search(step.artifact.path).trials) == 4


def test_a_space_smaller_than_the_trials_is_walked_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "run_trial", _planted)
    step = search(SearchConfig(**(TINY | {"trials": 50, "seed": 6})), context, one_after_another)
    assert len(read_search(step.artifact.path).trials) == 4


def _planted(_config: SearchConfig, _context: Context, proposed: Proposed) -> Trial:
    point = proposed.point
    found = trial(proposed.number, 0.9, float(point["num_layers"]), float(point["intermediate_size"]))
    return replace(found, point=point)
