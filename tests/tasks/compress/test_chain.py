from dataclasses import replace
from typing import Any

import pytest

from bento.errors import UserError
from tasks.compress import check_chain, check_sizes, read_chain, step_names
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.linformer import Linformer
from tasks.compress.pack import Pack
from tasks.compress.prune_structure import PruneStructure
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.compress.train_quantized import TrainQuantized
from tasks.compress.tune import Tune
from tests.tasks.compress.test_distil import MINILM


def test_a_whole_chain_is_accepted() -> None:
    check_chain([Distil(), Export(), Quantize()])
    assert Quantize.consumes == Export.produces


def test_quantize_before_export_names_both_and_the_remedy() -> None:
    with pytest.raises(
        ValueError, match=r"compress\[1\] 'quantize' consumes onnx, but compress\[0\] 'distil' .* put 'export'"
    ):
        check_chain([Distil(), Quantize()])


def test_a_first_technique_that_wants_onnx_is_told_what_the_teacher_is() -> None:
    with pytest.raises(ValueError, match="the teacher produces torch"):
        check_chain([Quantize()])


def test_distil_after_export_is_moved_in_front() -> None:
    with pytest.raises(ValueError, match="in front of 'export'"):
        check_chain([Export(), Distil()])


def test_a_chain_that_ends_in_torch_or_is_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="ends in onnx"):
        check_chain([Distil()])
    with pytest.raises(ValueError, match="at least one"):
        check_chain([])


def test_training_after_weights_were_pruned_is_refused_since_the_zeros_would_be_lost() -> None:
    with pytest.raises(ValueError, match=r"compress\[1\] 'distil' trains all weights, .* put 'distil' in front"):
        check_chain([PruneWeights(), Distil(), Export()])
    check_chain([Distil(), PruneWeights(), Export(), Quantize(), Pack()])


def test_quantizing_a_packed_file_is_refused() -> None:
    with pytest.raises(ValueError, match="put 'pack' behind it"):
        check_chain([Distil(), PruneWeights(), Export(), Pack(), Quantize()])


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ([Export(), Pack()], r"compress\[1\] 'pack' stores zeros .* put 'prune_weights' in front of 'export'"),
        ([PruneWeights(), Export(), Pack(), Pack()], r"compress\[3\] 'pack' comes a second time"),
        ([Export(), Quantize(), Quantize(scheme="weight_only")], r"compress\[2\] 'quantize' comes a second time"),
        ([Export(), Tune(), Quantize()], r"compress\[2\] 'quantize' changes what 'tune' measured.*'tune' behind it"),
        (
            [PruneWeights(), Export(), Quantize(weight_bits=4, embedding_bits=4), Pack()],
            r"compress\[3\] 'pack' leaves 4-bit values as they are.*set weight_bits or embedding_bits to 8",
        ),
    ],
)
def test_a_technique_that_finds_nothing_to_do_or_makes_another_ones_figures_wrong_is_refused(
    chain: list[Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        check_chain(chain)


def test_what_is_packed_may_be_tuned_and_stored_in_4_bits_in_part() -> None:
    check_chain([PruneWeights(), Export(), Quantize(weight_bits=4), Pack(), Tune()])
    check_chain([PruneWeights(), Export(), Quantize(weight_bits=4, embedding_bits=4, budget=0.01), Pack()])


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        ({"file": "/nonexistent.txt"}, "there is no /nonexistent.txt"),
        ({"copies": 0}, "expected a file or copies >= 1, got neither; give one, or write transfer: null"),
    ],
)
@pytest.mark.parametrize("technique", [Distil, PruneStructure, PruneWeights, TrainQuantized, Linformer])
def test_transfer_text_that_is_not_there_is_refused_before_any_compute(
    technique: Any, transfer: dict[str, Any], expected: str
) -> None:
    aim = {"num_layers": 2} if technique is PruneStructure else {}
    with pytest.raises(UserError, match=expected):
        check_sizes([technique(transfer=transfer, **aim)], MINILM)


def test_sizes_are_walked_through_the_whole_chain() -> None:
    with pytest.raises(UserError, match="the teacher has 3 layers"):
        check_sizes([Distil(num_layers=3), Distil(layers=[0, 5])], MINILM)
    with pytest.raises(UserError, match="a WordPiece tokenizer, got BPE"):
        check_sizes([PruneVocabulary()], replace(MINILM, tokenizer="BPE"))


def test_a_kind_that_comes_again_is_numbered() -> None:
    assert step_names([Distil(), Distil(), Export(), Quantize()]) == ["distil", "distil_2", "export", "quantize"]


def test_a_stored_chain_is_read_again() -> None:
    chain = (Distil(layers=[0, 2], temperature=3.0), Export(threads=2), Quantize(scheme="int8_static"))
    assert read_chain([technique.model_dump(mode="json") for technique in chain]) == chain
