"""Gaussian mean field updates: the NumPy twin of the `GMFEven` and `GMFOdd` layers.

The energy, for scores y_i of K classes at each pixel i, with the unary r and W_ij = s_ij C,

    E(y) = sum_i ||y_i - r_i||^2 + sum_{pairs {i,j}} (y_i - y_j)' W_ij (y_i - y_j)          (1)

is minimised exactly, in one half step, over all pixels of the even (or odd) columns, which no pair
joins to each other:

    mu_i <- (I + sum_j W_ij)^-1 (r_i + sum_j W_ij mu_j)                                     (2)

With the degree S_i = sum_j s_ij, the message m_i = sum_j s_ij mu_j and A_i = I + S_i C, this is
mu'_i = A_i^-1 (r_i + C m_i). Given g_i = dL/dmu'_i at an updated pixel, q_i = A_i^-1 g_i and
h_i = C q_i (both 0 at the other pixels):

    dL/dr_i = q_i            dL/ds_ij = h_i' (mu_j - mu'_i) + h_j' (mu_i - mu'_j)
    dL/dmu_j = sum_i s_ij h_i, at the other columns plus g_j, which passes through
    dL/dC = (G + G') / 2,  G = sum_i q_i (m_i - S_i mu'_i)'

E sees only the symmetric part of C, and so do these functions. C must be positive semidefinite, or
E has no minimum. Entries of s whose pair reaches outside the image are ignored.

Arguments, everywhere: mu and r (N, K, H, W), s (N, P, H, W) as in neighbourhood.py, C (K, K),
window the neighbourhood's side, parity the first updated column: 0 (even columns) or 1 (odd).
"""

from typing import ClassVar

import numpy as np

from python_layers.neighbourhood import pair_ends, pair_offsets
from python_layers.numpy_layer import NumpyLayer

# C = R R' computed in float may have eigenvalues this much below 0, relative to the largest.
ROUNDING = 1e-5


def check_shapes(mu, r, s, C, window):
    """Raise ValueError unless the shapes of mu, r, s and C fit together."""
    if len(mu) != 4:
        raise ValueError(f"mu has shape {mu}, expected (N, K, H, W)")
    num_images, num_classes, height, width = mu
    num_pairs = len(pair_offsets(window))
    for name, shape, expected in (
        ("r", r, mu),
        ("s", s, (num_images, num_pairs, height, width)),
        ("C", C, (num_classes, num_classes)),
    ):
        if tuple(shape) != tuple(expected):
            remedy = f"give all layers window {window}" if name == "s" else "match it to mu"
            raise ValueError(f"{name} has shape {shape}, expected {expected}; {remedy}")


def symmetric_part(C):
    """Return (C + C') / 2; raise ValueError unless it is positive semidefinite."""
    C = (C + C.T) / 2
    eigenvalues = np.linalg.eigvalsh(C)  # ascending
    if not eigenvalues[0] >= -ROUNDING * max(eigenvalues[-1], 0):  # also catches not-a-number
        raise ValueError(
            f"C has the eigenvalue {eigenvalues[0]:g}, expected a positive semidefinite matrix; "
            "take C from a MatrixGen layer"
        )
    return C


def degree_and_message(mu, s, window):
    """Return the degree S (N, H, W) and the message m (N, K, H, W) of every pixel."""
    S, m = np.zeros_like(mu[:, 0]), np.zeros_like(mu)
    for p, first, second in pair_ends(*mu.shape[2:], window):
        s_pair = s[:, p][first]
        S[first] += s_pair
        S[second] += s_pair
        m[first] += s_pair[:, None] * mu[second]
        m[second] += s_pair[:, None] * mu[first]
    return S, m


def solve(S, C, b):
    """Return (I + S_i C)^-1 b_i for every pixel i of S (N, H, W) and b (N, K, H, W)."""
    A = np.eye(len(C), dtype=C.dtype) + S[..., None, None] * C
    x = np.linalg.solve(A, b.transpose(0, 2, 3, 1)[..., None])
    return x[..., 0].transpose(0, 3, 1, 2)


def compatibility(C, x):
    """Return C x_i for every pixel i of x (N, K, H, W)."""
    return np.einsum("kl,nlyx->nkyx", C, x)


def energy(y, r, s, C, *, window):
    """Return E(y) (N,) of (1) for the scores y (N, K, H, W)."""
    check_shapes(y.shape, r.shape, s.shape, C.shape, window)
    result = ((y - r) ** 2).sum(axis=(1, 2, 3))
    for p, first, second in pair_ends(*y.shape[2:], window):
        difference = y[first] - y[second]
        pairwise = (difference * compatibility(C, difference)).sum(axis=1)
        result += (s[:, p][first] * pairwise).sum(axis=(1, 2))  # Eq. (1)
    return result


def forward(mu, r, s, C, *, window, parity):
    """Return mu' (N, K, H, W): mu with the columns of the given parity updated by (2)."""
    check_shapes(mu.shape, r.shape, s.shape, C.shape, window)
    C = symmetric_part(C)
    S, m = degree_and_message(mu, s, window)
    updated = (..., slice(parity, None, 2))
    result = mu.copy()
    result[updated] = solve(S[updated], C, (r + compatibility(C, m))[updated])  # Eq. (2)
    return result


def backward(mu, r, s, C, g, *, window, parity):
    """Return dL/dmu, dL/dr, dL/ds and dL/dC from the bottoms and g = dL/dmu' (N, K, H, W)."""
    result = forward(mu, r, s, C, window=window, parity=parity)
    C = symmetric_part(C)
    S, m = degree_and_message(mu, s, window)
    updated = (..., slice(parity, None, 2))

    q = np.zeros_like(g)
    q[updated] = solve(S[updated], C, g[updated])
    h = compatibility(C, q)

    mu_diff = g.copy()
    mu_diff[updated] = 0
    s_diff = np.zeros_like(s)
    for p, first, second in pair_ends(*mu.shape[2:], window):
        s_pair = s[:, p][first][:, None]
        mu_diff[second] += s_pair * h[first]
        mu_diff[first] += s_pair * h[second]
        s_diff[:, p][first] = (
            h[first] * (mu[second] - result[first]) + h[second] * (mu[first] - result[second])
        ).sum(axis=1)
    G = np.einsum("nkyx,nlyx->kl", q, m - S[:, None] * result)
    return mu_diff, q, s_diff, (G + G.T) / 2


class GMFEven(NumpyLayer):
    """forward and backward above for the even columns, as a layer."""

    bottoms = ("mu", "r", "s", "C")
    defaults: ClassVar = {"window": 23}
    parity = 0

    def top_shape(self, mu, r, s, C):
        check_shapes(mu, r, s, C, **self.parameters)
        return mu

    def compute(self, mu, r, s, C):
        return forward(mu, r, s, C, **self.parameters, parity=self.parity)

    def differentiate(self, top_diff, mu, r, s, C):
        return backward(mu, r, s, C, top_diff, **self.parameters, parity=self.parity)


class GMFOdd(GMFEven):
    """forward and backward above for the odd columns, as a layer."""

    parity = 1
