"""`retort bench compress --techniques`: what single techniques give, each alone on the config's teacher and text.

Half of the layers at full width (the bargain of DistilBERT, Sanh 2019, arXiv:1910.01108, which kept 97 %), nine of ten
weights zero, int8 whose answer does not depend on the batch, and the config's student with its vocabulary cut before
and after the training. Training and, but for the first, vocabulary are the config's.
"""

from typing import Any

import numpy as np

from bento.errors import UserError
from bento.predictor import Predictor
from flows.bench import plain, row
from flows.chain import make_candidate
from flows.config import Config
from tasks.compress import Technique
from tasks.compress.distil import Distil
from tasks.compress.export import Export
from tasks.compress.pack import Pack
from tasks.compress.prune_vocabulary import PruneVocabulary
from tasks.compress.prune_weights import PruneWeights
from tasks.compress.quantize import Quantize
from tasks.data import read_split
from tasks.distillation import Training
from tasks.evaluate import interleaved, sample
from tasks.quantization.invariance import in_one_batch, largest_shift

SPARSITY = 0.9
KEPT, LOST, STORED = 99.0, 3.0, 25.0  # per cent of the accuracy, points, per cent of the bytes
SLOWER = 1.1


def bench_techniques(chosen: Config) -> dict[str, Any]:
    """One row a figure, with the target that it has to reach. Raises: UserError for a config that searches."""
    if not isinstance(chosen.compress, tuple):
        raise UserError("bench compress --techniques: expected a chain under compress, got a search; give its chain")
    rows = [*_half(chosen), *_sparse(chosen), *_batch_invariant(chosen), *_orders(chosen)]
    return {"title": f"Single techniques on {chosen.name}", "rows": rows}


def _half(chosen: Config) -> list[dict[str, Any]]:
    built = make_candidate(_changed(chosen, (Distil(**_training(chosen)), Export())), None, stage=plain)
    teacher, student = (built.scores[name].metrics["accuracy"].value for name in ("teacher", "candidate"))
    kept = 100 * student / teacher
    return [
        row("half the layers: accuracy kept", kept, "%", f"teacher: {teacher:.4f}", student / teacher,
            f">= {KEPT:g} %", kept >= KEPT)
    ]  # fmt: skip


def _sparse(chosen: Config) -> list[dict[str, Any]]:
    cut = [technique for technique in chosen.compress if isinstance(technique, PruneVocabulary)]
    chain: tuple[Technique, ...] = (*cut, PruneWeights(sparsity=SPARSITY, **_training(chosen)), Export(), Pack())
    built = make_candidate(_changed(chosen, chain), None, stage=plain)
    teacher, dense, packed = (built.scores[name] for name in ("teacher", "export", "pack"))
    lost = 100 * (teacher.metrics["accuracy"].value - packed.metrics["accuracy"].value)
    stored = 100 * packed.size_bytes / dense.size_bytes
    title = f"{100 * SPARSITY:.0f} % of the weights zero"
    return [
        row(f"{title}: accuracy lost", lost, "points", f"teacher: {teacher.metrics['accuracy'].value:.4f}",
            target=f"<= {LOST:g} points", met=lost <= LOST),
        row(f"{title}: stored", stored, "%", f"dense: {dense.size_bytes / 1e6:.3g} MB",
            dense.size_bytes / packed.size_bytes, f"<= {STORED:g} %", stored <= STORED),
    ]  # fmt: skip


def _batch_invariant(chosen: Config) -> list[dict[str, Any]]:
    """The config's student in both kinds of int8, its trainings shared with the config's own build."""
    before = _until_export(chosen.compress)
    made = {
        scheme: make_candidate(
            _changed(chosen, (*before, Quantize(scheme=scheme, batch_invariant=scheme == "int8_static"))),
            None, stage=plain,
        )
        for scheme in ("int8_dynamic", "int8_static")
    }  # fmt: skip
    predictors = {scheme: Predictor(built.model.path) for scheme, built in made.items()}
    test = read_split(made["int8_static"].data.path, "test")
    rng = np.random.default_rng(chosen.teacher.seed)
    texts = sample(test, chosen.teacher.seed)
    shift = {
        scheme: largest_shift(in_one_batch(predictor.predict_logits), texts, rng)
        for scheme, predictor in predictors.items()
    }
    timed = interleaved({scheme: predictor.predict for scheme, predictor in predictors.items()}, texts)
    dynamic_ms, static_ms = (float(np.median(timed[scheme])) for scheme in ("int8_dynamic", "int8_static"))
    return [
        row("batch-invariant int8: largest change of a logit in a batch", shift["int8_static"], "",
            f"dynamic int8: {shift['int8_dynamic']:.3g}", target="0", met=shift["int8_static"] == 0),
        row("batch-invariant int8: one sentence, p50", static_ms, "ms", f"dynamic int8: {dynamic_ms:.3g} ms",
            dynamic_ms / static_ms, f"<= {SLOWER:g} times its time", static_ms <= SLOWER * dynamic_ms),
    ]  # fmt: skip


def _orders(chosen: Config) -> list[dict[str, Any]]:
    """The config's chain as it is, and with the vocabulary cut behind all that trains; nothing where it cuts none."""
    before = _until_export(chosen.compress)
    cut = [technique for technique in before if isinstance(technique, PruneVocabulary)]
    rest = [technique for technique in before[:-1] if technique not in cut]
    if not (cut and rest):
        return []
    first, last = (
        make_candidate(_changed(chosen, (*chain, before[-1])), None, stage=plain)
        for chain in ((*cut, *rest), (*rest, *cut))
    )
    accuracy, other = (built.scores["candidate"].metrics["accuracy"].value for built in (first, last))
    sizes = [built.scores["candidate"].size_bytes / 1e6 for built in (first, last)]
    against = f"cut behind it: {other:.4f}, {sizes[1]:.3g} MB instead of {sizes[0]:.3g}; see --training for the time"
    return [row("vocabulary cut before the training: accuracy", accuracy, "", against, accuracy / other)]


def _changed(chosen: Config, chain: tuple[Technique, ...]) -> Config:
    return chosen.model_copy(update={"compress": chain})


def _until_export(chain: Any) -> tuple[Technique, ...]:
    kinds = [technique.kind for technique in chain]
    return tuple(chain[: kinds.index("export") + 1])


def _training(chosen: Config) -> dict[str, Any]:
    """How the config's first distillation trains; the defaults where it has none."""
    given = next((technique for technique in chosen.compress if isinstance(technique, Distil)), Distil())
    return {name: getattr(given, name) for name in Training.model_fields}
