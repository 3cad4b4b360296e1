"""What the paper promises about the mean field updates, on random images, for twin and Caffe.

The reference is independent of both: the energy (1) as a sparse quadratic form, its pairs listed
one by one, and its minimum, the MAP solution, found by scipy. Everything is in double.
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import CaffeLayer
from numeric import relative_error

from python_layers import gmf

EVEN, ODD = 0, 1
CONVERGENCE = Path(__file__).resolve().parent.parent / "docs/convergence.md"


@functools.cache
def caffe_layer(parity, window):
    """Return one layer per kind, so that random images also mean random changes of size."""
    name = ("GMFEven", "GMFOdd")[parity]
    return CaffeLayer(f'type: "{name}" gmf_param {{ window: {window} }}', np.float64, 4)


def caffe_update(mu, r, s, C, *, window, parity):
    return caffe_layer(parity, window).forward(mu, r, s, C)


UPDATES = pytest.mark.parametrize("update", [gmf.forward, caffe_update], ids=["twin", "caffe"])


class Image:
    """A random image's r, s, C and window, and its energy E(y) = ||y - r||^2 + y' L y."""

    def __init__(self, seed, size, num_classes, *, window, strength, sparsity):
        """strength scales C; sparsity is the share of pairs whose similarity is 0."""
        rng = np.random.default_rng(seed)
        odd = [d for d in range(-(window // 2), window // 2 + 1) if d % 2]
        self.offsets = [(dy, dx) for dy in odd if dy > 0 for dx in odd]
        self.shape, self.window = (1, num_classes, *size), window
        self.r = rng.random(self.shape)
        s = rng.random((1, len(self.offsets), *size))
        self.s = s * (rng.random(s.shape) >= sparsity)
        R = np.tril(rng.normal(size=(num_classes, num_classes)))
        self.C = strength * R @ R.T
        self.bottoms = {"r": self.r, "s": self.s, "C": self.C, "window": window}

    @functools.cached_property
    def laplacian(self):
        """Return the (HW, HW) matrix with y' (laplacian) y = sum of s_ij (y_i - y_j)^2."""
        height, width = self.shape[2:]
        matrix = scipy.sparse.lil_array((height * width, height * width))
        for p, (dy, dx) in enumerate(self.offsets):
            for y in range(height - dy):
                for x in range(max(0, -dx), min(width, width - dx)):
                    i, j, s = y * width + x, (y + dy) * width + x + dx, self.s[0, p, y, x]
                    matrix[i, i] += s
                    matrix[j, j] += s
                    matrix[i, j] -= s
                    matrix[j, i] -= s
        return matrix.tocsc()

    @functools.cached_property
    def system(self):
        """I + L, of class-major vectors y.ravel(): half the second derivative of the energy."""
        pairwise = scipy.sparse.kron(self.C, self.laplacian, format="csc")
        return scipy.sparse.eye_array(self.r.size, format="csc") + pairwise

    def energy(self, y):
        y, r = y.ravel(), self.r.ravel()
        return y @ (self.system @ y) - 2 * r @ y + r @ r

    def map_solution(self):
        return scipy.sparse.linalg.spsolve(self.system, self.r.ravel()).reshape(self.shape)


images = st.builds(
    Image,
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    num_classes=st.integers(1, 6),
    window=st.sampled_from([3, 5, 7, 9, 23]),  # 9 and 23 exceed the size of many of the maps
    strength=st.sampled_from([0.01, 0.3, 1, 10]),
    sparsity=st.sampled_from([0, 0.5]),
)


@given(image=images, seed=st.integers(0, 1000))
@settings(max_examples=100)
def test_the_twin_s_energy_is_that_quadratic_form(image, seed):
    y = np.random.default_rng(seed).normal(size=image.shape)
    assert gmf.energy(y, **image.bottoms)[0] == pytest.approx(image.energy(y), rel=1e-11)


@UPDATES
@given(image=images, seed=st.integers(0, 1000))
@settings(max_examples=300)
def test_no_half_step_raises_the_energy(update, image, seed):
    mu = np.random.default_rng(seed).normal(size=image.shape)  # from any start
    energy = image.energy(mu)
    for parity in (EVEN, ODD, EVEN, ODD):
        mu = update(mu, **image.bottoms, parity=parity)
        lower = image.energy(mu)
        assert lower <= energy + 1e-12 * (image.r.ravel() @ image.r.ravel() + abs(energy))
        energy = lower


@UPDATES
@given(image=images)
@settings(max_examples=200)
def test_the_map_solution_is_the_fixed_point_and_has_the_least_energy(update, image):
    solution = image.map_solution()
    for parity in (EVEN, ODD):
        assert relative_error(update(solution, **image.bottoms, parity=parity), solution) < 1e-10
    least = image.energy(solution)
    assert least == pytest.approx((image.r * (image.r - solution)).sum(), rel=1e-8, abs=1e-10)
    assert least <= image.energy(image.r) + 1e-10


@UPDATES
@given(image=images)
@settings(max_examples=100)
def test_half_a_step_minimises_over_the_updated_columns(update, image):
    mu = image.r
    for parity in (EVEN, ODD):
        mu = update(mu, **image.bottoms, parity=parity)
        slope = (image.system @ mu.ravel() - image.r.ravel()).reshape(image.shape)
        scale = 1 + abs(image.C).max() * image.s.sum()
        assert abs(slope[..., parity::2]).max(initial=0) < 1e-12 * scale


def errors_of_layers(update, image):
    """Yield the error of mu = r and of the result of each layer, relative to the former.

    The error is the largest distance from the MAP solution over pixels and directions, with the
    classes rotated to the eigenvectors of C.
    """
    U, solution = np.linalg.eigh(image.C).eigenvectors, image.map_solution()

    def error(mu):
        return abs(np.tensordot(U.T, (mu - solution)[0], axes=1)).max()

    mu = image.r
    while True:
        yield error(mu) / error(image.r)
        for parity in (EVEN, ODD):
            mu = update(mu, **image.bottoms, parity=parity)


@UPDATES
@pytest.mark.parametrize("strength", [0.01, 0.1, 1])
@pytest.mark.parametrize("window", [3, 7, 23])
def test_enough_layers_reach_the_map_solution(update, window, strength):
    image = Image(0, (9, 10), 3, window=window, strength=strength, sparsity=0)
    stiffness = np.linalg.eigvalsh(image.C)[-1]  # the largest lambda
    largest = stiffness * image.laplacian.diagonal().max()
    q = largest / (1 + largest)  # each half step is a mean over the other columns, times at most q
    bound = int(np.ceil((1 + np.log(1e-8) / np.log(q)) / 2))
    errors = list(itertools.islice(errors_of_layers(update, image), bound + 1))
    for layers, error in enumerate(errors[1:], start=1):
        assert error <= q ** (2 * layers - 1) + 1e-12
    needed = next(layers for layers, error in enumerate(errors) if error <= 1e-8)

    # The eigenvalues of I + L are 1 + lambda times those of the Laplacian, whose least is 0.
    condition_number = 1 + stiffness * np.linalg.eigvalsh(image.laplacian.toarray())[-1]
    row = f"| {window} | {condition_number:.1f} | {needed} | {bound} | {errors[5]:.0e} |"
    assert row in CONVERGENCE.read_text(), f"the table of {CONVERGENCE} lacks {row}"


@UPDATES
@given(image=images, seed=st.integers(0, 1000))
@settings(max_examples=100)
def test_without_similarity_the_updated_columns_are_the_unary(update, image, seed):
    mu = np.random.default_rng(seed).normal(size=image.shape)
    image.bottoms["s"] = np.zeros_like(image.s)
    for parity in (EVEN, ODD):
        result = update(mu, **image.bottoms, parity=parity)
        np.testing.assert_allclose(
            result[..., parity::2], image.r[..., parity::2], rtol=0, atol=1e-13
        )
        assert np.array_equal(result[..., 1 - parity :: 2], mu[..., 1 - parity :: 2])


@UPDATES
@given(image=images, seed=st.integers(0, 1000))
@settings(max_examples=100)
def test_permuting_the_classes_permutes_the_result(update, image, seed):
    rng = np.random.default_rng(seed)
    mu, order = rng.normal(size=image.shape), rng.permutation(image.shape[1])
    permuted = {**image.bottoms, "r": image.r[:, order], "C": image.C[order][:, order]}
    for parity in (EVEN, ODD):
        result = update(mu, **image.bottoms, parity=parity)
        assert relative_error(update(mu[:, order], **permuted, parity=parity), result[:, order]) < (
            1e-11
        )


def mirrored_similarity(s, window):
    """Return s of the image mirrored left to right: (dy, dx) at x becomes (dy, -dx) at W-1-x."""
    num_images, num_pairs, height, width = s.shape
    rows = (window // 2 + 1) // 2  # dy = 1, 3, ..., and twice as many dx, in ascending order
    by_row = s.reshape(num_images, rows, num_pairs // rows, height, width)
    return by_row[:, :, ::-1, :, ::-1].reshape(s.shape)


@UPDATES
@given(image=images, seed=st.integers(0, 1000))
@settings(max_examples=200)
def test_mirroring_the_image_mirrors_the_result(update, image, seed):
    mu = np.random.default_rng(seed).normal(size=image.shape)
    s = mirrored_similarity(image.s, image.window)
    mirrored = {**image.bottoms, "r": image.r[..., ::-1], "s": s}
    for parity in (EVEN, ODD):
        result = update(mu, **image.bottoms, parity=parity)
        even_width = image.shape[3] % 2 == 0  # then column 0 mirrors an odd one
        mirrored_parity = 1 - parity if even_width else parity
        found = update(mu[..., ::-1], **mirrored, parity=mirrored_parity)
        assert relative_error(found, result[..., ::-1]) < 1e-11
