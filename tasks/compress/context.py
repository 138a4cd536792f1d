"""What every technique is given beside the artifact that it changes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.collapse import check_not_collapsed
from tasks.data import read_target
from tasks.store import Step, run_step
from tasks.task_types import TaskType, task_type
from tasks.types import Artifact, Kind, Section


@dataclass(frozen=True, kw_only=True)
class Context:
    """The data, the teachers and their cached logits, shared by all techniques of one chain."""

    name: str
    """The model's name, as it is registered."""
    data: Artifact
    teacher: Artifact
    teacher_logits: Artifact
    """`train.npy`, `validation.npy`: the teachers' joint logits_NC for the rows in their order."""
    max_tokens: int
    seed: int
    more_teachers: tuple[Artifact, ...] = ()
    """Torch folders whose answers are averaged with the teacher's."""
    untrained: bool = False
    """Whether models that have learnt nothing yet are made on purpose, to see how large and fast they are."""

    @property
    def teachers(self) -> tuple[Artifact, ...]:
        """The teacher, whose layers students start from, and the others."""
        return (self.teacher, *self.more_teachers)

    @property
    def task(self) -> TaskType:
        """How the data's truth is learnt and judged."""
        return task_type(read_target(self.data.path))

    def step(self, technique: Section, artifact: Artifact, make: Callable[[Path, Path], None]) -> Step:
        """Run one technique as a cached step, keyed by its config, its code and every artifact here.

        Only ONNX folders carry the model's name, so a student is found again under another. Raises: RetortError when
        the model answers as if by chance afterwards.
        """
        kind: Kind = technique.produces  # type: ignore[attr-defined]
        shared = {"max_tokens": self.max_tokens, "seed": self.seed} | ({"name": self.name} if kind == "onnx" else {})

        def checked(out: Path, work: Path) -> None:
            make(out, work)
            if not self.untrained:
                check_not_collapsed(out, kind, technique.kind, self)  # type: ignore[attr-defined]

        return run_step(
            technique.kind,  # type: ignore[attr-defined]
            kind=kind,
            inputs=(artifact, self.data, self.teacher, self.teacher_logits),
            config=technique.model_dump() | shared,
            code=type(technique).__module__,
            make=checked,
        )
