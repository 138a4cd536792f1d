"""Vocabulary pruning: keep the tokens that the training text uses or may well use next, and every single character.

For short texts the embedding table is half of a small encoder, and most of its rows are never looked up
(Abdaoui 2020, "Load What You Need"; arXiv:2010.05609). Done before training it also saves optimiser time.
Characters and their continuation forms stay, so a word whose piece was cut falls back to smaller pieces and nothing
becomes unknown that was not.
"""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from tasks.architecture import Architecture, load_classifier
from tasks.compress.context import Context
from tasks.data import read_split, read_unlabelled
from tasks.store import Step
from tasks.types import Artifact, Section
from tasks.vocabulary import cut_vocabulary, require_wordpiece


class PruneVocabulary(Section):
    """Cut the embedding table to the tokens that matter."""

    kind: Literal["prune_vocabulary"] = "prune_vocabulary"
    keep: float = Field(default=0.9999, gt=0, le=1)
    """Share of the training text's token occurrences, a retrain's recent texts among it, that the kept tokens cover."""
    likely: int = Field(default=3000, ge=0)
    """Also keep this many tokens that the training text lacks, those that more of it would most probably have: what
    their embeddings and their frequency in general text are like says so (`tasks/vocabulary.py`)."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    def check(self, shape: Architecture) -> Architecture:
        """Raises: UserError for tokenizers that are not WordPiece."""
        require_wordpiece(shape.tokenizer, shape.model_type)
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """A model with a smaller vocabulary and the tokenizer to match."""
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context.data.path, out))

    def _make(self, source: Path, data: Path, out: Path) -> None:
        model = load_classifier(source)
        train, held_out = (list(read_split(data, name).texts) for name in ("train", "validation"))
        cut_vocabulary(
            model,
            source,
            [*train, *read_unlabelled(data)],
            held_out=held_out,
            keep=self.keep,
            likely=self.likely,
            out=out,
        )
        model.save_pretrained(out)
