"""Text -> token ids -> ONNX Runtime -> probabilities: the only inference path.

Evaluation, gates, benchmarks, batch scoring, the MLflow model and the service all call this file, so what was
measured is what serves.

Shapes: N texts, B batch, T tokens, C classes; of entities WK, words and tags, in C's place.
"""

import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bento.abstention import scope_confidence
from bento.answer import Answer, answers_of
from bento.cost import RunCost, Serving
from bento.entities import Span, at_words, find_entities, first_tokens, words_of
from bento.manifest import ONNX_FILE, Manifest, folder_sha256
from bento.task_types import Answers, Floats, Task, label_answers, label_set_answers, probabilities
from bento.uncased import Encoded, Tokens, Uncased, is_uncased

Text = str | tuple[str, str]
"""One input: a sentence, or a pair of them."""


def num_characters(text: Text) -> int:
    """Characters of one input."""
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


Ints = NDArray[np.int64]

TOKENIZER_FILE = "tokenizer.json"

GRAPH_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


SLOW_FUSIONS = ["SkipLayerNormFusion", "EmbedLayerNormFusion"]
"""Left out when a graph is loaded: ONNX Runtime's kernel for a normalisation fused with the addition before it takes
five times as long as the two nodes apart (29 us against 5 us for 15 tokens of 384 dimensions, version 1.32), a quarter
of a small model's time. `retort bench compress` measures the whole."""


def open_session(path: Path, threads: int, graph_level: str = "all") -> ort.InferenceSession:
    """An ONNX Runtime CPU session with its threads set, since the default takes every core of the host."""
    options = ort.SessionOptions()
    options.graph_optimization_level = GRAPH_LEVELS[graph_level]
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
    )


def pad(encodings: Sequence[Encoded], pad_id: int, *, multiple: int = 1, limit: int = 0) -> dict[str, Ints]:
    """Right-pad B encodings to the longest: input_ids, attention_mask and token_type_ids, each of shape BT.

    T is rounded up to a `multiple`, though not beyond `limit`, which is as long as an encoding can be.
    """
    longest = max(len(encoding) for encoding in encodings)
    length = max(longest, min(-(-longest // multiple) * multiple, limit or longest))
    if len(encodings) == 1 and length == longest:
        (only,) = encodings
        return {
            "input_ids": np.array([only.ids], dtype=np.int64),
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "token_type_ids": np.array([only.type_ids], dtype=np.int64),
        }
    ids_BT = np.full((len(encodings), length), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    types_BT = np.zeros_like(ids_BT)
    for row, encoding in enumerate(encodings):
        num_tokens = len(encoding)
        ids_BT[row, :num_tokens] = encoding.ids
        mask_BT[row, :num_tokens] = 1
        types_BT[row, :num_tokens] = encoding.type_ids
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "token_type_ids": types_BT}


class Predictor:
    """A loaded model folder; thread-safe, since tokenizer and session are."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        pad_multiple: int | None = None,
        graph_level: str | None = None,
        check: bool = True,
        before: "Predictor | None" = None,
        session: Any | None = None,
    ) -> None:
        """Load `folder`; what is given overrides the manifest's settings. Raises: IntegrityError.

        A `session` takes the place of ONNX Runtime's: it has its `get_inputs` and `run`.

        The tokeniser of the model `before` is taken over if it is the same, since reading one of 30,000 words holds
        Python's lock for 25-80 ms, in which a service answers nobody.
        """
        self.folder = folder
        given = {"threads": threads, "pad_multiple": pad_multiple, "graph_level": graph_level}
        stored = Manifest.read(folder)
        if check:
            stored.check(folder)
        self.manifest = stored.model_copy(update={name: value for name, value in given.items() if value is not None})
        self.sha256 = folder_sha256(folder)
        self.labels = self.manifest.labels
        same = before is not None and _tokenizer_of(before.manifest) == _tokenizer_of(self.manifest)
        self.tokenizer: Tokenizer = (
            before.tokenizer if before and same else _read_tokenizer(folder, self.manifest.max_tokens)
        )
        self.session = session or open_session(folder / ONNX_FILE, self.manifest.threads, self.manifest.graph_level)
        self.input_names = tuple(node.name for node in self.session.get_inputs())
        self.pad_id = _pad_id(folder, self.tokenizer)
        prior = self.manifest.prior
        self._shift_C = prior.log_shift_C * np.float32(self.manifest.temperature) if prior else None
        self.uncased: Uncased | None = (
            before.uncased if before and same else _uncased(self.tokenizer, self.manifest.target.task)
        )

    @cached_property
    def serving(self) -> Serving:
        """How it is best run under load: as measured when it was built, or as many runs as this machine has cores."""
        threads = self.manifest.threads
        return self.manifest.serving or Serving.of(
            RunCost(), threads=threads, workers=max(1, (os.cpu_count() or 1) // threads)
        )

    def normalized(self, text: Text) -> Text:
        """One of all texts that have these very tokens, as far as that can be told from the text."""
        if self.uncased is None:
            return text
        if isinstance(text, str):
            return self.uncased.normalized(text)
        return self.uncased.normalized(text[0]), self.uncased.normalized(text[1])

    def encode(self, text: Text) -> Encoded:
        """One text, truncated."""
        known = self._plain(text)
        if known is not None:
            return known
        encoding: Encoded = self.tokenizer.encode(*((text,) if isinstance(text, str) else text))
        return encoding

    def tokenize(self, texts: Sequence[Text]) -> list[Encoded]:
        """One truncated, unpadded encoding a text."""
        known = [self._plain(text) for text in texts]
        others = [text for text, tokens in zip(texts, known, strict=True) if tokens is None]
        encoded = iter(self.tokenizer.encode_batch(others))
        return [next(encoded) if tokens is None else tokens for tokens in known]

    def _plain(self, text: Text) -> Tokens | None:
        if self.uncased is None:
            return None
        return self.uncased.tokens(text) if isinstance(text, str) else self.uncased.tokens(*text)

    def feeds(self, encodings: Sequence[Encoded]) -> dict[str, Ints]:
        """One right-padded batch as the graph takes it."""
        padded = pad(encodings, self.pad_id, multiple=self.manifest.pad_multiple, limit=self.manifest.max_tokens)
        return {name: padded[name] for name in self.input_names}

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Of one text's logits: C, or W and K."""
        wide = self.manifest.target.task == "entities"
        return (self.manifest.max_tokens, len(self.labels)) if wide else (len(self.labels),)

    def logits(self, texts: Sequence[Text], encodings: Sequence[Encoded]) -> Floats:
        """Run one right-padded batch: B texts with their encodings -> logits_BC."""
        outputs: list[Any] = self.session.run(None, self.feeds(encodings))
        logits_BC: Floats = outputs[0]
        if self.manifest.target.task != "entities":
            return logits_BC
        num_words, _ = self.answer_shape
        rows = zip(logits_BC, texts, encodings, strict=True)
        return np.stack(
            [at_words(row_TK, first_tokens(one, self.words(str(text))), num_words) for row_TK, text, one in rows]
        )

    def words(self, text: str) -> list[Span]:
        """What a text has a tag each for."""
        return words_of(text)

    def predict_logits(self, texts: Sequence[Text], *, batch_size: int = 1) -> Floats:
        """N texts -> logits_NC in the given order.

        A text a run by default: dynamic int8 lets an answer depend on the other rows of its batch, and what is
        evaluated has to be what is served. Larger batches hold texts of similar length.
        """
        encodings = self.tokenize(texts)
        if len(encodings) == 1:
            return self.logits(texts, encodings)
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
        logits_NC = np.empty((len(encodings), *self.answer_shape), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits_NC[rows] = self.logits([texts[row] for row in rows], [encodings[row] for row in rows])
        return logits_NC

    def predict(self, texts: Sequence[Text], *, batch_size: int = 1) -> Floats:
        """N texts -> calibrated probabilities_NC in the given order."""
        return self.probabilities(self.predict_logits(texts, batch_size=batch_size))

    def probabilities(self, logits_NC: Floats) -> Floats:
        """Calibrated probabilities_NC of these logits, for the mix of classes that the manifest names."""
        shifted_NC = logits_NC if self._shift_C is None else logits_NC + self._shift_C
        return probabilities(shifted_NC, self.manifest.target.task, self.manifest.temperature)

    def answers(self, texts: Sequence[Text], probabilities_NC: Floats) -> Answers:
        """What is answered of these texts, by column: labels, sets of them, scores or entities, as the task is."""
        target = self.manifest.target
        if target.task == "entities":
            found = zip(texts, probabilities_NC, strict=True)
            rows = [find_entities(str(text), self.words(str(text)), row_WK, self.labels) for text, row_WK in found]
            return {"entities": rows}
        if target.task == "score":
            return {"score": target.score(probabilities_NC[:, 0].astype(float)).tolist()}
        if target.task == "multi_label":
            return label_set_answers(probabilities_NC, self.labels, self.manifest.threshold)
        return label_answers(probabilities_NC, self.labels, self.abstains(probabilities_NC))

    def answer(self, texts: Sequence[Text], encodings: Sequence[Encoded]) -> list[Answer]:
        """Run one batch: B texts with their encodings -> an answer each."""
        return answers_of(self, texts, self.probabilities(self.logits(texts, encodings)))

    def abstains(self, probabilities_NC: Floats) -> NDArray[np.bool_]:
        """abstained_N: which of these answers had better be a person's; none where the manifest has no threshold."""
        rule = self.manifest.abstain
        if rule is None:
            return np.zeros(len(probabilities_NC), dtype=np.bool_)
        abstained_N: NDArray[np.bool_] = scope_confidence(probabilities_NC, self.labels, rule.labels) < rule.threshold
        return abstained_N


def _uncased(tokenizer: Tokenizer, task: Task) -> Uncased | None:
    """Entities are places in the text as it came, so there capitals and spaces count."""
    return Uncased(tokenizer) if task != "entities" and is_uncased(tokenizer) else None


def _tokenizer_of(manifest: Manifest) -> tuple[str | None, int, Task]:
    """What makes a model's tokeniser: the file's digest, where it cuts, and what it is for."""
    return manifest.files.get(TOKENIZER_FILE), manifest.max_tokens, manifest.target.task


def _read_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=2)
def shared_predictor(folder: Path) -> Predictor:
    """The one predictor of this process for a folder: Spark's workers load a registered model for each partition."""
    return Predictor(folder)


def _pad_id(folder: Path, tokenizer: Tokenizer) -> int:
    """The model's padding id, from config.json as `transformers` does."""
    import json

    pad_id = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id")
    return int(pad_id) if pad_id is not None else 0
