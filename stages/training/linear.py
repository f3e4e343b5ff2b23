"""A linear head on stored features: a convex problem, solved to convergence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from threadpoolctl import threadpool_limits

from stages.program.errors import InputError
from stages.training.design import Double, Problem, class_weights, slices
from stages.training.linear_head import Float, LinearHead
from stages.training.losses import LOSSES, Labels, cross_entropies

TOLERANCE = 1e-5  # of the gradient's largest element: for heads that are compared
SMALLEST = 1e-12  # curvature along a coordinate: a constant without a penalty has none
FINE = 1e-7  # for those that are kept: as far as sums in float32 go


def fit_head(problem: Problem, weight_decay: float) -> tuple[LinearHead, float]:
    """Solve a problem by L-BFGS (scipy); the bias is not penalised.

    Args:
        problem: the objective.
        weight_decay: the strength of the penalty, as `torch.optim.SGD` defines it.

    Returns:
        The head, for features as they are stored, and its mean loss on the training pictures.

    Raises:
        InputError: the features are too large, or not finite.

    """
    with threadpool_limits(1, user_api="blas"):
        flat, loss = solve(problem, weight_decay, np.ones(len(problem.labels), dtype=bool), None, FINE)
    return problem.design.head(flat, problem.n_classes), loss


def solve(
    problem: Problem, weight_decay: float, in_training: NDArray[np.bool_], start: Double | None, tolerance: float
) -> tuple[Double, float]:
    """Return the weights and biases by the design's coordinates, (classes * (coordinates + 1),), and their loss.

    Features are read in pieces, once for each evaluation, so memory does not grow with their number. Variables are
    scaled by what the loss's curvature is along each coordinate, about: half of what a Gaussian of the same mean square
    would give.

    It ends where the gradient's largest element is below `tolerance`, or a step lowers the objective by less than a
    thousandth of that, relative to it: sums in float32 tell no finer steps apart than those of FINE.
    """
    design, n_classes, views = problem.design, problem.n_classes, problem.tables[0].shape[1]
    loss_of = LOSSES[problem.loss]
    labels, of_class = problem.labels, class_weights(problem.labels, problem.class_weight)
    kept = sum(np.bincount(labels[rows][in_training[rows]], minlength=n_classes) for rows in slices([labels]))
    of_class = of_class / (views * (of_class @ kept))  # so that the rows' weights sum to 1
    size = len(design.curvature)
    precondition = 1 / np.sqrt(np.maximum((1 - 1 / n_classes) / 2 * design.curvature + weight_decay, SMALLEST))
    edges = np.cumsum([0, *map(len, design.means)])
    columns = [slice(first, end) for first, end in pairwise(edges)]

    def objective(flat: Double) -> tuple[float, Double]:
        scaled = flat[:-n_classes].reshape(n_classes, size)
        weight, bias = scaled * precondition, flat[-n_classes:]
        by_block = [weight[:, part] * scale for part, scale in zip(columns, design.scales, strict=True)]
        offset = bias - sum(part @ mean for part, mean in zip(by_block, design.means, strict=True))
        by_block = [part.astype(np.float32) for part in by_block]
        loss, gradients, gradient_bias = 0.0, [np.zeros(part.shape) for part in by_block], np.zeros(n_classes)
        for rows in slices(design.blocks):
            logits = sum(block[rows] @ part.T for block, part in zip(design.blocks, by_block, strict=True)) + offset
            pictures = rows if views == 1 else np.arange(rows.start, rows.stop) // views
            weights = of_class[labels[pictures]] * in_training[pictures]
            losses, gradient = loss_of(logits.astype(np.float32, copy=False), labels[pictures])
            loss += float(weights @ losses)
            gradient = gradient * weights[:, None].astype(np.float32)
            for number, block in enumerate(design.blocks):
                gradients[number] += gradient.T @ block[rows]
            gradient_bias += gradient.sum(axis=0)
        parts = [
            (sums - np.outer(gradient_bias, mean)) * scale
            for sums, mean, scale in zip(gradients, design.means, design.scales, strict=True)
        ]
        gradient_weight = np.concatenate(parts, axis=1) + weight_decay * weight
        penalty = weight_decay / 2 * float((weight**2).sum())
        return loss + penalty, np.concatenate([(gradient_weight * precondition).ravel(), gradient_bias])

    first = np.zeros((size + 1) * n_classes)
    if start is not None:
        first = np.concatenate(
            [(start[:-n_classes].reshape(n_classes, size) / precondition).ravel(), start[-n_classes:]]
        )
    options = {"maxiter": 1000, "gtol": tolerance, "ftol": tolerance / 1e3, "maxcor": 20}
    result = minimize(objective, first, method="L-BFGS-B", jac=True, options=options)
    if not np.isfinite([result.fun, *result.x]).all():
        raise InputError("no head can be fitted to data/features: they are too large, or hold NaN or infinity")
    weight = result.x[:-n_classes].reshape(n_classes, size) * precondition
    loss = float(result.fun) - weight_decay / 2 * float((weight**2).sum())
    return np.concatenate([weight.ravel(), result.x[-n_classes:]]), loss


def calibrate(logits: Float, labels: Labels, *, smoothed: bool = True) -> float:
    """Return the factor on logits that makes their softmax best calibrated; it changes no prediction.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599.

    Args:
        logits: float32 (n, classes), of pictures that were not trained on.
        labels: int64 (n,).
        smoothed: whether no probability is to be surer than (n + 1) / (n + 2), as in Platt 1999, section 2.2: of
            margins, whose scale means nothing, the most probable factor is infinite where all are right.

    """
    n, n_classes = logits.shape
    own, sums = logits[np.arange(n), labels].astype(np.float64), logits.sum(axis=1, dtype=np.float64)

    def loss(log_factor: float) -> float:
        factor = np.exp(log_factor)
        of_own = cross_entropies(logits, labels, factor)
        if not smoothed:
            return float(of_own.mean())
        of_all = n_classes * (of_own + factor * own) - factor * sums  # of each class as if it were the label, summed
        return float(((n + 1) * of_own + (of_all - of_own) / (n_classes - 1)).mean() / (n + 2))

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))
