"""The dense CRF that the Gaussian CRF is compared with, and the search for its parameters.

    labels = dense_crf.refine(probabilities, image, dense_crf.load("dense_crf.json"))

The model is that of P. Kraehenbuehl and V. Koltun, "Efficient inference in fully connected CRFs
with Gaussian edge potentials", 2011, in the implementation of PyPI's pydensecrf2.
"""

import dataclasses
import itertools
import json
import math
from concurrent.futures import as_completed
from operator import itemgetter
from pathlib import Path

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from tqdm import tqdm

from gcrf import atomic
from gcrf.scores import confusion_matrix, measure
from gcrf.segmenter import labels


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Equation (3) of the paper: two Gaussian kernels. A weight of 0 turns one off."""

    smoothness_weight: float  # w(2)
    smoothness_std: float  # theta_gamma, pixels
    appearance_weight: float  # w(1)
    appearance_position_std: float  # theta_alpha, pixels
    appearance_colour_std: float  # theta_beta, of 256 levels
    iterations: int  # of mean field inference

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), field.type
            if type(value) not in {int, kind} or not math.isfinite(value):
                raise ValueError(f"{field.name} is {value!r}, expected a number ({kind.__name__})")
            is_weight = field.name.endswith("weight")
            if value < 0 or (value == 0 and not is_weight):
                least = "0 or more" if is_weight else "more than 0"
                raise ValueError(f"{field.name} is {value}, expected {least}")


def load(path):
    """Return the parameters in a JSON file; raises ValueError if it holds anything else."""
    names = [field.name for field in dataclasses.fields(Parameters)]
    try:
        content = json.loads(Path(path).read_text())
        found = content.get("parameters") if isinstance(content, dict) else None
        if not isinstance(found, dict) or found.keys() != set(names):
            raise ValueError(f'expected {{"parameters": {{...}}}} with {", ".join(names)}')
        return Parameters(**found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; tools/dense_crf.py writes such a file") from error


def save(path, parameters, tuning):
    """Write the parameters as JSON, with a dictionary that says how they were tuned."""
    content = {"parameters": dataclasses.asdict(parameters), "tuning": tuning}
    with atomic.new_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def refine(probabilities, image, parameters):
    """Return the labels that the dense CRF gives, (H, W) uint8.

    probabilities: the unary's, (K, H, W) float32; image: (H, W, 3) uint8, BGR.
    Holds Python's interpreter lock while it works: use worker processes to run several at once.
    """
    return _refine(probabilities, image, parameters, [parameters.iterations])[0]


def _refine(probabilities, image, parameters, stops):
    """Return the labels after each number of iterations in `stops`, ascending."""
    num_classes, height, width = probabilities.shape
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        expected = f"uint8 {(height, width, 3)}, the size of the probabilities"
        raise ValueError(f"image is {image.dtype} {image.shape}, expected {expected}")
    p = parameters
    if not (p.smoothness_weight or p.appearance_weight):
        return [labels(probabilities)] * len(stops)
    crf = DenseCRF2D(width, height, num_classes)
    unary = -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(num_classes, -1), np.float32))
    if p.smoothness_weight:
        crf.addPairwiseGaussian(p.smoothness_std, p.smoothness_weight)
    if p.appearance_weight:
        stds = p.appearance_position_std, p.appearance_colour_std
        crf.addPairwiseBilateral(*stds, np.ascontiguousarray(image), p.appearance_weight)
    found, (marginals, *buffers) = [], crf.startInference()
    for iteration in range(1, stops[-1] + 1):
        crf.stepInference(marginals, *buffers)
        if iteration in stops:
            found.append(labels(np.asarray(marginals).reshape(num_classes, height, width)))
    return found


# ---- The search
#
# Random candidates cover five parameters with fewer runs than DeepLab's grid, which is searched one
# coordinate at a time from a start near the optimum. A few images suffice to discard the worst.

# A candidate is the tuple of a Parameters' values without the iterations: all of STOPS are tried.
STOPS = (5, 10)  # the published numbers
PUBLISHED = (
    (3.0, 3.0, 10.0, 80.0, 13.0),  # the example that comes with the authors' code
    (3.0, 3.0, 4.0, 121.0, 5.0),  # DeepLab-MSc-LargeFOV on VOC 2012
)
LEAST = (0.1, 1, 0.3, 5, 2)  # of random candidates, drawn uniformly on a logarithmic scale
GREATEST = (30, 20, 30, 150, 60)
ROUNDS = ((40, 4), (12, 2), (4, 1))  # this many candidates, on one in this many cases
GROWTH = (
    3,
    2,
)  # a round before these has this many times the candidates, on as many times fewer cases
STEPS = 6  # variations of the best, one after another
STEP_SIZE = 0.3  # standard deviation of the change of a value's logarithm
NO_CHANGE = Parameters(0, 1, 0, 1, 1, 1)


def search_rounds(num_candidates, num_cases):
    """Return the rounds of a search: [(candidates kept, cases that they are tried on), ...]."""
    rounds = list(ROUNDS)
    while rounds[0][0] < num_candidates:
        kept, share = rounds[0]
        rounds.insert(0, (kept * GROWTH[0], share * GROWTH[1]))
    return [(min(kept, num_candidates), math.ceil(num_cases / share)) for kept, share in rounds]


def num_runs(num_candidates, num_cases):
    """Return how often `tune` runs the dense CRF: candidates keep their cases of earlier rounds."""
    runs, before = STEPS * num_cases, 0
    for kept, count in search_rounds(num_candidates, num_cases):
        runs += kept * (count - before)
        before = count
    return runs


def tune(cases, seed, pool, num_candidates=ROUNDS[0][0]):
    """Return (Parameters, mean IoU), the best found for the cases; it may be NO_CHANGE.

    cases: [(probabilities, image, truth), ...], as of `refine`; pool: of worker processes;
    num_candidates: how many to start with, published and random. Shows a progress bar. The same
    seed gives the same result.
    """
    random, counted = np.random.default_rng(seed), {}

    def scores(candidates, num_cases):
        """Return [(mean IoU on the first cases, candidate, its best of STOPS), ...], best first."""
        futures = {}
        for candidate, index in itertools.product(candidates, range(num_cases)):
            if (candidate, index) not in counted:
                parameters = Parameters(*candidate, STOPS[-1])
                future = pool.submit(_confusions, *cases[index], parameters)
                futures[future] = candidate, index
        for future in as_completed(futures):
            counted[futures[future]] = future.result()
            bar.update()
        found = []
        for candidate in candidates:
            totals = sum(counted[candidate, index] for index in range(num_cases))
            ious = [_mean_iou(total) for total in totals]
            found.append((max(ious), candidate, STOPS[int(np.argmax(ious))]))
        return sorted(found, key=itemgetter(0), reverse=True)

    rounds = search_rounds(num_candidates, len(cases))
    candidates = [*PUBLISHED]
    candidates += [_random_candidate(random) for _ in range(num_candidates - len(PUBLISHED))]
    with tqdm(total=num_runs(num_candidates, len(cases)), desc="search", unit="run") as bar:
        for kept, num_cases in rounds:
            found = scores(candidates[:kept], num_cases)
            candidates = [candidate for _, candidate, _ in found]
        best = found[0]
        for _ in range(STEPS):
            changed = scores([_changed(best[1], random)], len(cases))
            best = max(best, *changed, key=itemgetter(0))
    mean_iou, candidate, iterations = best
    unary = unary_mean_iou(cases)
    if unary >= mean_iou:
        return NO_CHANGE, unary
    return Parameters(*candidate, iterations), mean_iou


def unary_mean_iou(cases):
    """Return the mean IoU of the cases of `tune` without a dense CRF."""
    return _mean_iou(sum(confusion_matrix(t, labels(p), len(p)) for p, _, t in cases))


def _mean_iou(confusion):
    return measure(confusion)["mean_iou"]


def _confusions(probabilities, image, truth, parameters):
    """Return the confusion matrix after each number of iterations in STOPS, (len(STOPS), K, K)."""
    found = _refine(probabilities, image, parameters, STOPS)
    return np.stack([confusion_matrix(truth, each, len(probabilities)) for each in found])


def _random_candidate(random):
    return tuple(np.exp(random.uniform(np.log(LEAST), np.log(GREATEST))).tolist())


def _changed(candidate, random):
    return tuple((candidate * np.exp(random.normal(0, STEP_SIZE, len(candidate)))).tolist())
