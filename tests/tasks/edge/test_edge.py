"""Exports: whole, small enough to state, replaced only by one that answers, and refused in words."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers.normalizers import BertNormalizer

from bento.errors import ReleaseError, UserError
from bento.manifest import ONNX_FILE, folder_files, folder_size_bytes
from bento.task_types import Task
from tasks.compress.context import Context
from tasks.compress.quantize import Quantize
from tasks.edge import check
from tasks.types import Artifact
from tests.tasks.edge.exports import Exporting, change_manifest, tiny
from tests.tiny import write_tiny_model


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("task", ["single_label", "multi_label", "score", "entities"])
def test_each_task_is_answered_in_node_as_the_service_does_on_200_texts(
    export: Exporting, tmp_path: Path, task: Task, pairs: bool
) -> None:
    if pairs and task == "entities":
        pytest.skip("entities are of one text")
    done = export(tiny(tmp_path / "model", task, pairs=pairs), tmp_path / "out").checked
    assert (done.num_texts, done.num_same) == (200, 200)
    assert done.largest_difference < 1e-5


@pytest.mark.parametrize("scheme", [None, "int8_static", "int8_dynamic", "weight_only", "float16"])
def test_a_bert_is_answered_the_same_in_each_precision(
    export: Exporting, context: Context, exported: Artifact, tmp_path: Path, scheme: Any
) -> None:
    model = exported if scheme is None else Quantize(scheme=scheme).run(exported, context).artifact
    done = export(model.path, tmp_path / "out").checked
    assert done.num_same >= 198
    assert done.usual_difference < (0.01 if scheme in ("int8_static", "int8_dynamic") else 1e-4)


def test_every_file_is_stated_with_its_size_and_nothing_points_elsewhere(export: Exporting, tmp_path: Path) -> None:
    found = export(tiny(tmp_path / "model"), tmp_path / "out")
    assert {file.path for file in found.files} == set(folder_files(tmp_path / "out"))
    assert found.size_bytes == folder_size_bytes(tmp_path / "out") == sum(file.size_bytes for file in found.files)
    assert {file.part for file in found.files} == {
        "page", "model", "tokenizer", "onnxruntime-web", "@huggingface/tokenizers"
    }  # fmt: skip
    assert found.gzip_bytes < found.size_bytes / 2
    identity = json.loads((tmp_path / "out" / "edge.json").read_text(encoding="utf-8"))
    assert identity["files"].items() <= folder_files(tmp_path / "out").items()
    pages = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("*.*") if path.name != "icon.svg"
    )
    assert "https://" not in pages


def test_an_earlier_export_is_replaced_and_keeps_its_place_when_the_new_one_fails(
    export: Exporting, tmp_path: Path
) -> None:
    model, out = tiny(tmp_path / "model"), tmp_path / "out"
    export(model, out)
    before = folder_files(out)
    other = tiny(tmp_path / "other")
    shutil.copy(tiny(tmp_path / "more", "multi_label") / "config.json", other / "config.json")
    (other / "config.json").write_text("{}")
    with pytest.raises(Exception, match="was altered"):
        export(other, out)
    assert folder_files(out) == before
    export(change_manifest(tiny(tmp_path / "third"), temperature=2.0), out)
    assert folder_files(out)["sw.js"] != before["sw.js"], "browsers must notice the new export"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_folder_with_other_files_and_a_file_are_refused(export: Exporting, tmp_path: Path) -> None:
    model, full = tiny(tmp_path / "model"), tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    with pytest.raises(
        UserError, match="expected a new or empty folder, or an earlier export, but it holds other files"
    ):
        export(model, full)
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="expected a folder, got a file"):
        export(model, full / "thesis.txt")
    empty = tmp_path / "empty"
    empty.mkdir()
    export(model, empty)
    assert (empty / "index.html").is_file()


def test_a_model_that_webassembly_cannot_run_is_refused_with_its_reason(export: Exporting, tmp_path: Path) -> None:
    import onnx

    model = write_tiny_model(tmp_path / "model")
    graph = onnx.load(model / ONNX_FILE)
    graph.graph.node[0].op_type, graph.graph.node[0].domain = "MadeUp", "nowhere"
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    onnx.save(graph, broken / ONNX_FILE)
    out = tmp_path / "out"
    export(model, out)
    shutil.copy(broken / ONNX_FILE, out / "model" / ONNX_FILE)
    with pytest.raises(ReleaseError, match=r"does not run in WebAssembly: (.|\n)*nowhere"):
        check.compare(model, out)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("tokens.js", "this.maxTokens - numSpecial", "this.maxTokens - numSpecial - 1", "its tokenizer makes"),
        ("tokens.js", "rules.handle_chinese_chars &&", "false &&", "its tokenizer makes"),
        ("answers.js", "(logit - largest) / temperature", "logit - largest", "expected nine texts of ten"),
        ("answers.js", "< abstain.threshold", "< 0", "expected nine texts of ten"),
        ("predictor.js", "padded(ids.map(() => 1), 0)", "padded(ids.map(() => 1), 1)", "expected nine texts of ten"),
    ],
)
def test_a_fault_planted_into_the_page_is_caught_by_the_check(
    export: Exporting, tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    model, out = tiny(tmp_path / "model"), tmp_path / "out"
    export(model, out)
    code = (out / file).read_text(encoding="utf-8")
    assert old in code
    (out / file).write_text(code.replace(old, new), encoding="utf-8")
    with pytest.raises(ReleaseError, match=message):
        check.compare(model, out)


def test_characters_are_normalised_as_the_tokenizers_library_does(export: Exporting, tmp_path: Path) -> None:
    """But for combining marks of rare scripts, which that library knows from Unicode 8."""
    export(tiny(tmp_path / "model"), tmp_path / "out")
    rules = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    code = f"""
      const {{ normalize }} = await import("{tmp_path}/out/tokens.js");
      const all = Array.from({{ length: 0x110000 }}, (_, code) => code);
      const codes = all.filter((code) => code < 0xd800 || code > 0xdfff);
      const made = codes.map((code) => normalize(String.fromCodePoint(code), {json.dumps(rules)}).chars.join(""));
      process.stdout.write(JSON.stringify(made));
    """
    command = ["node", "--input-type=module", "-e", code]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    normalizer = BertNormalizer(lowercase=True)
    others = [code for code, found in zip(codes, made, strict=True) if normalizer.normalize_str(chr(code)) != found]
    assert len(others) < 700
    assert not set(others) & {*range(0x7F0), *range(0x1E00, 0xA000), *range(0xAC00, 0x10000), *range(0x1F000, 0x1FB00)}


def test_the_command_refuses_a_name_without_champion(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "export-edge", "nobody", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nobody has no champion to export" in json.loads(done.stdout)["error"]
    assert not (tmp_path / "out").exists()
