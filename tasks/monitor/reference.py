"""The reference: what held-out rows looked like when the champion was made, frozen for every later look.

Shapes: N held-out rows, M reference rows, D embedding dimensions, K components, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bento.errors import DataError, IntegrityError

Floats = NDArray[np.floating]
MIN_ROWS = 40
MAX_COORDINATES = 20
"""Up to this many classes each probability is compared; above, their summaries."""
REFERENCE_FILE = "reference.npz"
DESCRIPTOR = "descriptor:"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Projected held-out rows with the champion's answers on them."""

    mean_D: NDArray[np.float32]
    components_DK: NDArray[np.float32]
    projected_MK: NDArray[np.float32]
    probabilities_MC: NDArray[np.float32]
    labels_M: NDArray[np.int64]
    """True class indices."""
    class_names: tuple[str, ...]
    descriptors: Mapping[str, NDArray[np.float32]]
    """Name -> one value a reference row."""
    prior_C: NDArray[np.float64]
    """Class shares under which the probabilities are calibrated: of all held-out rows, before any were chosen."""
    rows_M: NDArray[np.int64]
    """Where each reference row is among the held-out rows, whose texts stay in the data artifact."""

    def __len__(self) -> int:
        return len(self.projected_MK)

    def project(self, embeddings_ND: Floats) -> NDArray[np.float32]:
        """Embeddings -> principal components, as the reference's own were."""
        return np.asarray((unit_length(embeddings_ND) - self.mean_D) @ self.components_DK, dtype=np.float32)

    @property
    def sha256(self) -> str:
        """Digest of everything that a look compares with."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Store as `reference.npz`: plain arrays, no pickle."""
        np.savez_compressed(folder / REFERENCE_FILE, rows_M=self.rows_M, **self._arrays())  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` stored. Raises: IntegrityError."""
        path = folder / REFERENCE_FILE
        if not path.is_file():
            raise IntegrityError(f"{folder}: expected {REFERENCE_FILE} in it; run the monitor again to make it")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        names = tuple(arrays.pop("class_names").tolist())
        described = {
            name.removeprefix(DESCRIPTOR): arrays.pop(name) for name in list(arrays) if name.startswith(DESCRIPTOR)
        }
        return cls(class_names=names, descriptors=described, **arrays)

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        names = ("mean_D", "components_DK", "projected_MK", "probabilities_MC", "labels_M", "prior_C")
        described = {f"{DESCRIPTOR}{name}": values for name, values in self.descriptors.items()}
        return {name: getattr(self, name) for name in names} | described | {"class_names": np.array(self.class_names)}


def fit_reference(
    embeddings_ND: Floats,
    probabilities_NC: Floats,
    descriptors: Mapping[str, Floats],
    *,
    labels_N: NDArray[np.int64],
    class_names: Sequence[str],
    num_components: int = 32,
    max_rows: int = 2_000,
    prior_C: NDArray[np.floating] | None = None,
    rows_N: NDArray[np.int64] | None = None,
    rng: np.random.Generator,
) -> Reference:
    """Fit the projection on one half of the held-out rows and keep up to `max_rows` of the other half to compare with.

    The halves are separate because the components fit their own rows better than any later window, which would look
    like drift. `descriptors` has one value a row; `prior_C` are the class shares that the probabilities are calibrated
    under, those of these rows where it is not given, and `rows_N` where these rows are among all held-out ones.
    Raises: DataError for fewer than 40 rows.
    """
    n = len(embeddings_ND)
    if n < MIN_ROWS:
        raise DataError(
            f"monitor reference: expected at least {MIN_ROWS} held-out rows, got {n}; use a larger test split"
        )
    order = rng.permutation(n)
    num_kept = min(max_rows, n - n // 2)
    kept, fitted = np.sort(order[:num_kept]), order[num_kept:]
    unit_ND = unit_length(embeddings_ND)
    mean_D = unit_ND[fitted].mean(axis=0)
    _, _, components_KD = np.linalg.svd(unit_ND[fitted] - mean_D, full_matrices=False)
    components_DK = components_KD[: min(num_components, len(fitted) - 1)].T
    return Reference(
        mean_D=mean_D.astype(np.float32),
        components_DK=components_DK.astype(np.float32),
        projected_MK=((unit_ND[kept] - mean_D) @ components_DK).astype(np.float32),
        probabilities_MC=np.asarray(probabilities_NC[kept], dtype=np.float32),
        labels_M=np.asarray(labels_N[kept], dtype=np.int64),
        prior_C=np.bincount(labels_N, minlength=len(class_names)) / n if prior_C is None else np.asarray(prior_C),
        rows_M=kept if rows_N is None else rows_N[kept],
        class_names=tuple(class_names),
        descriptors={name: np.asarray(values[kept], dtype=np.float32) for name, values in descriptors.items()},
    )


def unit_length(embeddings_ND: Floats) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays."""
    embeddings_ND = np.asarray(embeddings_ND, dtype=np.float64)
    length_N1 = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    return np.asarray(embeddings_ND / np.maximum(length_N1, 1e-12), dtype=np.float64)


def descriptor_table(descriptors: Mapping[str, Floats]) -> tuple[list[str], NDArray[np.float64]]:
    """The descriptors of N texts by column, sorted by name."""
    names = sorted(descriptors)
    columns = np.stack([descriptors[name] for name in names], axis=1)
    return names, np.asarray(columns, dtype=np.float64)


def prediction_features(
    probabilities_NC: Floats, class_names: tuple[str, ...]
) -> tuple[list[str], NDArray[np.float64]]:
    """What is compared of the champion's answers: each probability, or above 20 classes their summaries.

    Source: Lipton 2018 (arXiv:1802.03916), Rabanser 2019 (arXiv:1810.11953).
    """
    values_NC = np.asarray(probabilities_NC, dtype=np.float64)
    if len(class_names) <= MAX_COORDINATES:
        return [f"probability of {name}" for name in class_names], values_NC
    top_N2 = np.sort(values_NC, axis=1)[:, :-3:-1]
    entropy_N = -(values_NC * np.log(np.maximum(values_NC, 1e-12))).sum(axis=1)
    columns = [top_N2[:, 0], top_N2[:, 0] - top_N2[:, 1], entropy_N]
    return ["largest probability", "margin", "entropy"], np.stack(columns, axis=1)
