"""One float model folder, and the quantized folders made of it and tried on validation rows.

Shapes: N rows, C classes.
"""

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from bento.manifest import MANIFEST_FILE, ONNX_FILE, Manifest, folder_files
from bento.predictor import Predictor
from bento.task_types import Floats
from tasks.quantization.graph import find_parts, read_graph
from tasks.quantization.integer import Range, to_integer
from tasks.quantization.levels import Plan
from tasks.quantization.storage import store
from tasks.task_types import task_type
from tasks.types import Split

NUM_RANKING_ROWS = 256


class Workbench:
    """Builds a plan's model folder and measures it through the predictor, as it would be served."""

    def __init__(self, source: Path, work: Path, validation: Split, *, per_channel: bool) -> None:
        self.source, self.work, self.validation, self.per_channel = source, work, validation, per_channel
        self.parts = find_parts(read_graph(source / ONNX_FILE))
        self.ranges: Mapping[str, Range] = {}
        manifest = Manifest.read(source)
        self.task = task_type(manifest.target)
        self.truth = self.task.targets(validation, manifest.labels)

    def write(self, plan: Plan, out: Path, lineage: Mapping[str, Any]) -> None:
        """The model folder of this plan; `lineage` is added to the source's."""
        import onnx

        shutil.copytree(
            self.source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.onnx", MANIFEST_FILE)
        )
        model = read_graph(self.source / ONNX_FILE)
        model = to_integer(model, self.parts, plan, self.ranges, per_channel=self.per_channel)
        store(model, self.parts, plan)
        onnx.save(model, out / ONNX_FILE)
        manifest = Manifest.read(self.source)
        files = {path: digest for path, digest in folder_files(out).items() if path != MANIFEST_FILE}
        manifest.model_copy(update={"files": files, "lineage": manifest.lineage | dict(lineage)}).write(out)

    def drop(self, plan: Plan) -> float:
        """Quality (accuracy, or what the task has in its place) on the validation rows that this plan loses against
        the float model; negative where it gains."""
        logits_NC = self._logits(plan, len(self.validation))
        return self.task.quality(self.float_logits_NC, self.truth) - self.task.quality(logits_NC, self.truth)

    def divergence(self, plan: Plan) -> float:
        """How far this plan's answers are from the float model's on the first validation rows."""
        num_rows = min(NUM_RANKING_ROWS, len(self.validation))
        return self.task.divergence(self.float_logits_NC[:num_rows], self._logits(plan, num_rows))

    @cached_property
    def float_logits_NC(self) -> Floats:
        """The float model's answers on the validation rows."""
        return Predictor(self.source, check=False).predict_logits(self.validation.texts, batch_size=32)

    def _logits(self, plan: Plan, num_rows: int) -> Floats:
        trial = self.work / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        self.write(plan, trial, {})
        return Predictor(trial, check=False).predict_logits(self.validation.texts[:num_rows])
