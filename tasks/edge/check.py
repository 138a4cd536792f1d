"""Whether an exported folder answers as the service does: both get the same texts, the folder under Node.

The texts are made of the tokenizer's own vocabulary, so that they fit any model and language, and of what is hard to
tokenize. Their token ids must be the same. The probabilities may differ: int8 rounds activations, so that the last bit
of a float, in which a processor and WebAssembly differ, now and then moves one by a step. In float models the
differences are of 1e-7; with dynamic int8 they are, too, for most texts, and as large as a step for a few.

Shapes: N texts.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bento.errors import ReleaseError, UserError
from bento.predictor import Predictor, Text
from bento.task_types import Target

NUM_TEXTS = 200
TOLERANCE = 0.02
"""Of a probability, or a score as a share of its scale: nine texts of ten differ by no more."""
MAX_CHANGED = 0.02
"""Largest share of texts with another class, set of labels or entities: near ties, which a step decides."""
NODE_TIMEOUT_S = 900
REFUSED = "nothing was exported, since the folder would not answer as the service does"
HARD = (
    "The QUICK brown fox!?",
    "naïve café, Ünïcödé and e\u0301 accents",
    "日本語 and 中文 mixed with English",
    "🙂 emoji 👩‍👩‍👧 joined",
    "tabs\tand\nlines\u00a0and\u200bzero width",
    "it's 5 o'clock — “quoted” …",
    "https://example.org/a?b=c&d=%20e #tag @name",
    "ΟΔΥΣΣΕΥΣ İstanbul straße ﬁne",
    "[CLS] [SEP] <s> literally",
    "x" * 150,
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the folder answered beside the service's predictor."""

    num_texts: int
    num_same: int
    """Texts with the same class and abstention, labels or entities; of scores, all."""
    usual_difference: float
    """Of any probability, or of a score as a share of its scale: nine texts of ten differ by no more."""
    largest_difference: float
    """The same of the text that differs most."""


def compare(model: Path, folder: Path) -> Agreement:
    """Ask the model folder and the exported `folder` the same texts.

    Raises: UserError without Node.js; ReleaseError when the folder fails to run or answers something else.
    """
    predictor = Predictor(model, threads=1)
    texts = make_texts(predictor)
    expected = expected_answers(predictor, texts)
    return agreement(texts, expected, answers_of(folder, texts), predictor.manifest.target)


def expected_answers(predictor: Predictor, texts: Sequence[Text]) -> list[dict[str, Any]]:
    """The service's predictions of each text, all probabilities and token ids with them."""
    probabilities_NC = predictor.predict(texts)
    answers = predictor.answers(texts, probabilities_NC)
    rows = [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]
    for row, encoding, row_C in zip(rows, predictor.tokenize(texts), probabilities_NC.tolist(), strict=True):
        row["token_ids"] = encoding.ids
        if predictor.manifest.target.task in ("single_label", "multi_label"):
            row["probabilities"] = dict(zip(predictor.labels, row_C, strict=True))
    return rows


def make_texts(predictor: Predictor, num_texts: int = NUM_TEXTS, seed: int = 0) -> list[Text]:
    """Texts of a few words up to more than is read, in pairs where the model reads pairs."""
    rng = np.random.default_rng(seed)
    words = _words(predictor)
    longest = predictor.manifest.max_tokens
    texts = [_text(rng, words, longest) for _ in range(num_texts - len(HARD))] + list(HARD)
    if not predictor.manifest.pairs:
        return list(texts)
    return [(text, _text(rng, words, longest)) for text in texts]


def _words(predictor: Predictor) -> list[str]:
    """The vocabulary as it stands in a text, without special tokens."""
    tokenizer = predictor.tokenizer
    ids = sorted(tokenizer.get_vocab().values())
    words = {word for word in (tokenizer.decode([number]).removeprefix("##").strip() for number in ids) if word}
    return sorted(word for word in words if "\ufffd" not in word)


def _text(rng: np.random.Generator, words: Sequence[str], longest: int) -> str:
    num_words = min(int(rng.lognormal(2.5, 0.8)) + 1, 2 * longest)
    return " ".join(rng.choice(np.array(words, dtype=object), num_words))


def answers_of(folder: Path, texts: Sequence[Text]) -> list[dict[str, Any]]:
    """What the exported folder answers under Node. Raises: UserError, ReleaseError."""
    node = shutil.which("node")
    if node is None:
        raise UserError("expected Node.js, which checks the export; on Debian or Ubuntu: apt-get install nodejs npm")
    done = subprocess.run(
        [node, str(folder / "answer.js")], input=json.dumps(texts), capture_output=True, text=True, check=False,
        timeout=NODE_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise ReleaseError(
            f"nothing was exported, since the model does not run in WebAssembly: {done.stderr.strip()[-800:]}\n"
            "What `retort run` builds with the techniques export, quantize and pack is known to run; so is a champion "
            "without quantize. Rebuild without what the message names."
        )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def agreement(texts: Sequence[Text], expected: Sequence[Any], found: Sequence[Any], target: Target) -> Agreement:
    """Compare answers. Raises: ReleaseError with an example when the folder does not answer as the service does."""
    pairs = list(zip(expected, found, strict=True))
    for text, (one, other) in zip(texts, pairs, strict=True):
        if one["token_ids"] != other["token_ids"]:
            raise ReleaseError(
                f"{REFUSED}: of {text!r} its tokenizer makes {other['token_ids']}, expected {one['token_ids']}. "
                "Export a model whose tokenizer is BERT's."
            )
    differences = [_difference(one, other, target) for one, other in pairs]
    changed = [at for at, (one, other) in enumerate(pairs) if decision(one) != decision(other)]
    usual = float(np.quantile(differences, 0.9))
    if usual > TOLERANCE or len(changed) > MAX_CHANGED * len(texts):
        at = changed[0] if changed else int(np.argmax(differences))
        raise ReleaseError(
            f"{REFUSED}: expected nine texts of ten within {TOLERANCE} and another answer to at most "
            f"{MAX_CHANGED:.0%} of {len(texts)}, got {usual:.4f} and {len(changed)}, such as for {texts[at]!r}: "
            f"{decision(expected[at])} became {decision(found[at])}. Quantize with int8_static, which is closer."
        )
    return Agreement(
        num_texts=len(texts), num_same=len(texts) - len(changed), usual_difference=usual,
        largest_difference=max(differences),
    )  # fmt: skip


def decision(answer: dict[str, Any]) -> Any:
    """What is answered without its probability: class and abstention, set of labels, or entities; none of a score."""
    if "entities" in answer:
        return [(entity["label"], entity["start"], entity["end"]) for entity in answer["entities"]]
    return {key: answer[key] for key in ("label", "abstained", "labels") if key in answer}


def _difference(one: dict[str, Any], other: dict[str, Any], target: Target) -> float:
    """Of the probabilities, the score as a share of its scale, or the scores of the entities that both found."""
    if "score" in one:
        return abs(float(target.share(one["score"]) - target.share(other["score"])))
    if "entities" in one:
        scores = {(entity["label"], entity["start"], entity["end"]): entity["score"] for entity in one["entities"]}
        both = [(entity["score"], scores.get((entity["label"], entity["start"], entity["end"])))
                for entity in other["entities"]]  # fmt: skip
        return max((abs(here - there) for here, there in both if there is not None), default=0.0)
    there = other["probabilities"]
    return float(max(abs(value - there[label]) for label, value in one["probabilities"].items()))
