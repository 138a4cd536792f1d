"""Which class mix does unlabelled traffic have?

Shapes: N rows, C classes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from bento.errors import UserError

Floats = NDArray[np.float64]

MAX_CONDITION = 100.0


def saerens_prior(
    probabilities_NC: NDArray[np.floating], prior_C: NDArray[np.floating], *, tolerance: float = 1e-6, most: int = 500
) -> Floats:
    """Class shares of the rows by expectation maximisation, if only the mix changed since `prior_C`.

    `probabilities_NC` have to be calibrated under `prior_C`; a class with prior 0 stays at 0.
    Source: Saerens 2002, Neural Computation 14:21, equation 2.9.
    """
    old_C = np.asarray(prior_C, dtype=np.float64)
    ratio_NC = np.divide(probabilities_NC, old_C, out=np.zeros(probabilities_NC.shape), where=old_C > 0)
    shares_C = old_C / old_C.sum()
    for _ in range(most):
        weighted_NC = ratio_NC * shares_C
        updated_C = (weighted_NC / np.maximum(weighted_NC.sum(axis=1, keepdims=True), 1e-300)).mean(axis=0)
        change = float(np.abs(updated_C - shares_C).max())
        shares_C = updated_C / max(float(updated_C.sum()), 1e-300)
        if change < tolerance:
            break
    return np.asarray(shares_C, dtype=np.float64)


def bbse_prior(
    predicted_N: NDArray[np.int64],
    reference_predicted_N: NDArray[np.int64],
    reference_labels_N: NDArray[np.int64],
    num_classes: int,
) -> Floats:
    """Class shares of the rows from predicted labels and the reference's confusions, a cross-check of the EM.

    Solves confusion @ shares = predicted shares. Source: Lipton 2018 (arXiv:1802.03916), section 4.
    Raises: UserError where the confusions cannot be inverted reliably.
    """
    joint_CC = np.zeros((num_classes, num_classes))
    np.add.at(joint_CC, (reference_predicted_N, reference_labels_N), 1)
    support_C = joint_CC.sum(axis=0)
    confusion_CC = joint_CC / np.maximum(support_C, 1)
    condition = float(np.linalg.cond(confusion_CC)) if (support_C > 0).all() else float("inf")
    if condition > MAX_CONDITION:
        raise UserError(
            f"class mix: expected reference confusions with a condition number of at most {MAX_CONDITION:g}, got "
            f"{condition:.3g}; add labelled reference rows of the rare classes, or trust the EM estimate alone"
        )
    shares_C, _ = nnls(confusion_CC, np.bincount(predicted_N, minlength=num_classes) / len(predicted_N))
    return np.asarray(shares_C / shares_C.sum(), dtype=np.float64)
