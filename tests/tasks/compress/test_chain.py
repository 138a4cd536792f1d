from dataclasses import replace

import pytest

from bento.errors import UserError
from tasks.compress import check_chain, check_sizes, read_chain, step_names
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.pack import Pack
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
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
