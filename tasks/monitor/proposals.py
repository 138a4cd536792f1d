"""What the champion's teacher would answer to the rows that wait for a label: a suggestion for whoever labels.

Nothing that counts labels reads it.
"""

from pathlib import Path

from bento.audit_records import audit_queue, store_proposals
from bento.errors import UserError
from bento.manifest import Manifest
from tasks.store import load_artifact
from tasks.types import Artifact

MAX_PROPOSED = 1_000
"""Rows of the queue that are scored at a time; a teacher takes milliseconds a row."""
BATCH = 16


def teacher_of(name: str, model: Path) -> tuple[Artifact, Manifest]:
    """The teacher that a served model learnt from. Raises: UserError when the store has it no more."""
    manifest = Manifest.read(model)
    if manifest.target.task != "single_label":
        raise UserError(f"audit: proposes one class a text; {name} answers {manifest.target.task}")
    sha256 = str(manifest.lineage.get("teacher"))
    teacher = load_artifact(sha256, kind="torch", made_by="teacher")
    if teacher is None:
        raise UserError(
            f"audit: expected the teacher of {name}'s champion in the store, but {sha256[:16]} is gone or altered; run "
            "its build again with `retort run`, or label without proposals"
        )
    return teacher, manifest


def propose(name: str, model: Path, *, most: int = MAX_PROPOSED) -> int:
    """Store what the teacher says of the rows at the head of the queue that it has not scored; their number.

    Raises: UserError when the teacher is gone.
    """
    from tasks.evaluate import Eager

    teacher, manifest = teacher_of(name, model)
    rows = [row for row in audit_queue(name, most) if row["proposed_by"] != teacher.sha256]
    if not rows:
        return 0
    eager = Eager(teacher.path, manifest.max_tokens)
    texts = [(row["text"], row["text_pair"]) if row["text_pair"] is not None else row["text"] for row in rows]
    probabilities_NC = eager.predict(texts, batch_size=BATCH)
    items = [(row["request_id"], row["item"]) for row in rows]
    best_N = probabilities_NC.argmax(axis=1)
    labels = [eager.labels[best] for best in best_N]
    return store_proposals(name, zip(items, labels, probabilities_NC.max(axis=1).tolist(), strict=True), teacher.sha256)
