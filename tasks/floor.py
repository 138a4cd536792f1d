"""The floor: TF-IDF and logistic regression, the cheap model that a transformer has to beat to be worth its cost.

Shapes: N rows, C classes.
"""

import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bento.entities import OUTSIDE, Entity, entity_types, group_tags, tags_of, words_of
from bento.task_types import Target, Task
from tasks.data.truths import read_entities, write_entities
from tasks.stats.multi_label import best_threshold
from tasks.task_types import task_type
from tasks.types import AnyPredictions, EntityPredictions, Predictions, SigmoidPredictions, Split

NUM_LATENCY_ROWS = 200
WORD_OR_SIGN = r"\w+|[^\w\s]"
"""Signs count as words, so that a text of emoji or one-letter words is not empty."""


def fit_floor(train: Split, test: Split, labels: Sequence[str]) -> tuple[Predictions, int]:
    """Fit on `train`, answer `test`: its predictions, and the bytes of the fitted model.

    Word 1- and 2-grams with sublinear counts; a pair of texts is joined. Latencies are of single texts. Deterministic.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    index = {label: at for at, label in enumerate(labels)}
    model = make_pipeline(make_vectorizer(), LogisticRegression(C=10.0, max_iter=1000))
    with threadpool_limits(1):  # the matrices are sparse: more threads only wait for one another
        model.fit(_joined(train.texts), [index[label] for label in train.labels])
    texts = _joined(test.texts)
    probabilities_NC = np.zeros((len(test), len(labels)), dtype=np.float32)
    probabilities_NC[:, model.classes_] = model.predict_proba(texts)
    predictions = Predictions(
        ids=test.ids,
        probabilities_NC=probabilities_NC,
        labels_N=np.array([index[label] for label in test.labels], dtype=np.int64),
        latency_ms_N=_latency_ms(model.predict_proba, texts[:NUM_LATENCY_ROWS]),
    )
    return predictions, len(pickle.dumps(model))


def fit_task_floor(
    train: Split, validation: Split, test: Split, labels: tuple[str, ...], target: Target
) -> tuple[AnyPredictions, int]:
    """The floor of any task: its predictions, and the bytes of the fitted model.

    Label sets: a logistic regression a label, its threshold from the validation rows. Scores: a ridge regression; of a
    pair, the cosine of the two texts' vectors, which learns no more than the words' weights. Entities: each word's
    most frequent tag.
    """
    if target.task == "single_label":
        return fit_floor(train, test, labels)
    if target.task == "entities":
        return fit_tag_floor(train, test, labels)
    task = task_type(target)
    model: _Floor = _SetFloor() if target.task == "multi_label" else _ScoreFloor()
    model.fit(train, task.targets(train, labels))
    threshold = 0.5
    if target.task == "multi_label":
        threshold = best_threshold(model.answer(validation.texts), task.targets(validation, labels))
    predictions = SigmoidPredictions(
        ids=test.ids,
        task=target.task,
        probabilities_NC=model.answer(test.texts).astype(np.float32),
        truth_NC=task.targets(test, labels),
        threshold=threshold,
        latency_ms_N=_latency_ms(model.answer, test.texts[:NUM_LATENCY_ROWS]),
    )
    return predictions, len(pickle.dumps(model))


def fit_tag_floor(train: Split, test: Split, labels: tuple[str, ...]) -> tuple[EntityPredictions, int]:
    """Each word with the tag that it has most often in training, capitals told apart; outside where it is new."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, truth in zip(train.texts, train.labels, strict=True):
        words = words_of(text)
        for (start, end), tag in zip(words, tags_of(words, read_entities(truth)), strict=True):
            counts[text[start:end]][tag] += 1
    usual = {word: found.most_common(1)[0][0] for word, found in counts.items()}

    def answer(texts: Sequence[str]) -> list[str]:
        return [write_entities(_usual_entities(text, usual)) for text in texts]

    predictions = EntityPredictions(
        ids=test.ids,
        types=tuple(entity_types(labels)),
        answers=tuple(answer(test.texts)),
        truth=test.labels,
        latency_ms_N=_latency_ms(answer, test.texts[:NUM_LATENCY_ROWS]),
    )
    return predictions, len(pickle.dumps(usual))


def _usual_entities(text: str, usual: Mapping[str, str]) -> list[Entity]:
    words = words_of(text)
    groups = group_tags([usual.get(text[start:end], OUTSIDE) for start, end in words])
    return [(words[found.words[0]][0], words[found.words[-1]][1], found.type) for found in groups]


def floor_words(task: Task, *, pairs: bool) -> str:
    """What the floor is, for a reader."""
    if task == "entities":
        return "each word's most frequent tag"
    if task == "score":
        return "the cosine of both texts' TF-IDF vectors" if pairs else "TF-IDF with ridge regression"
    return "TF-IDF with logistic regression" + (" a label" if task == "multi_label" else "")


class _Floor(Protocol):
    def fit(self, train: Split, truth_NC: Any) -> None: ...

    def answer(self, texts: Sequence[Any]) -> Any: ...


class _SetFloor:
    """A logistic regression a label."""

    def fit(self, train: Split, truth_NC: Any) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.pipeline import make_pipeline

        self.model = make_pipeline(make_vectorizer(), OneVsRestClassifier(LogisticRegression(C=10.0, max_iter=1000)))
        self.model.fit(_joined(train.texts), truth_NC)

    def answer(self, texts: Sequence[Any]) -> Any:
        return self.model.predict_proba(_joined(texts))


class _ScoreFloor:
    """A ridge regression of one text, the cosine of two."""

    def fit(self, train: Split, truth_NC: Any) -> None:
        from sklearn.linear_model import Ridge

        self.vectorizer = make_vectorizer()
        vectors = self.vectorizer.fit_transform(_joined(train.texts))
        pairs = not isinstance(train.texts[0], str)
        self.model = None if pairs else Ridge().fit(vectors, truth_NC[:, 0])

    def answer(self, texts: Sequence[Any]) -> Any:
        if self.model is not None:
            return self.model.predict(self.vectorizer.transform(texts)).clip(0, 1)[:, None]
        first, second = (self.vectorizer.transform([text[side] for text in texts]) for side in (0, 1))
        return np.asarray(first.multiply(second).sum(axis=1)).reshape(-1, 1).clip(0, 1)


def make_vectorizer() -> Any:
    """TF-IDF of word 1- and 2-grams with sublinear counts, rows of unit length."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_OR_SIGN, dtype=np.float32)


def _joined(texts: Sequence[Any]) -> list[str]:
    return [text if isinstance(text, str) else " ".join(text) for text in texts]


def _latency_ms(answer: Callable[[Sequence[Any]], Any], texts: Sequence[Any]) -> NDArray[np.float64]:
    latency_ms = []
    for text in texts:
        start = time.perf_counter()
        answer([text])
        latency_ms.append((time.perf_counter() - start) * 1000)
    return np.array(latency_ms, dtype=np.float64)
