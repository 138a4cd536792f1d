import pytest

from tasks.compress import check_chain
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.quantize import Quantize


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
