"""What every technique is given beside the artifact that it changes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.store import Step, run_step
from tasks.types import Artifact, Kind, Section


@dataclass(frozen=True, kw_only=True)
class Context:
    """The data, the teacher and its cached logits, shared by all techniques of one chain."""

    name: str
    """The model's name, as it is registered."""
    data: Artifact
    teacher: Artifact
    teacher_logits: Artifact
    """`train.npy`: the teacher's logits_NC for the training rows in their order."""
    max_tokens: int
    seed: int

    def step(self, technique: Section, artifact: Artifact, make: Callable[[Path, Path], None]) -> Step:
        """Run one technique as a cached step, keyed by its config, its code and every artifact here.

        Only ONNX folders carry the model's name, so a student is found again under another.
        """
        kind: Kind = technique.produces  # type: ignore[attr-defined]
        shared = {"max_tokens": self.max_tokens, "seed": self.seed} | ({"name": self.name} if kind == "onnx" else {})
        return run_step(
            technique.kind,  # type: ignore[attr-defined]
            kind=kind,
            inputs=(artifact, self.data, self.teacher, self.teacher_logits),
            config=technique.model_dump() | shared,
            code=type(technique).__module__,
            make=make,
        )
