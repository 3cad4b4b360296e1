"""The gradient tests of the twins can fail: each turns red when one term of a backward is wrong."""

import inspect
import types

import pytest
import test_gmf
import test_interp
import test_margin_loss
import test_matrix_gen
import test_similarity
import test_similarity_loss

from python_layers import gmf, interp, margin_loss, matrix_gen, similarity, similarity_loss

WINDOW_3 = ((2, 3, 5, 4), 3)

# A test module, the twin it tests, arguments of its gradient test, and edits of the twin.
MUTATIONS = [
    (
        *(test_similarity.test_gradient, similarity, WINDOW_3),
        [
            ("gradient = -2 *", "gradient = 0 *"),
            ("gradient = -2 *", "gradient = 2 *"),
            ("gradient = -2 *", "gradient = -2.2 *"),
            ("p_diff[first] += gradient", "pass"),
            ("p_diff[second] -= gradient", "pass"),
            ("p_diff[second] -= gradient", "p_diff[second] += gradient"),
        ],
    ),
    (
        *(test_matrix_gen.test_gradient_is_zero_above_the_diagonal, matrix_gen, (5,)),
        [
            ("return np.tril((C_diff + C_diff.T)", "return 0 * np.tril((C_diff + C_diff.T)"),
            ("return np.tril((C_diff + C_diff.T)", "return -np.tril((C_diff + C_diff.T)"),
            ("return np.tril((C_diff + C_diff.T)", "return 1.1 * np.tril((C_diff + C_diff.T)"),
            ("C_diff + C_diff.T", "C_diff"),
            ("C_diff + C_diff.T", "C_diff.T"),
            ("return np.tril((C_diff", "return ((C_diff"),
        ],
    ),
    (
        *(test_gmf.test_gradient, gmf, (*WINDOW_3, 0)),
        [
            ("return mu_diff, q,", "return 0 * mu_diff, q,"),
            ("return mu_diff, q,", "return -mu_diff, q,"),
            ("return mu_diff, q,", "return 1.1 * mu_diff, q,"),
            ("return mu_diff, q,", "return mu_diff, 0 * q,"),
            ("return mu_diff, q,", "return mu_diff, -q,"),
            ("return mu_diff, q,", "return mu_diff, 1.1 * q,"),
            ("s_diff, (G + G.T) / 2", "0 * s_diff, (G + G.T) / 2"),
            ("s_diff, (G + G.T) / 2", "-s_diff, (G + G.T) / 2"),
            ("s_diff, (G + G.T) / 2", "1.1 * s_diff, (G + G.T) / 2"),
            ("s_diff, (G + G.T) / 2", "s_diff, 0 * G"),
            ("s_diff, (G + G.T) / 2", "s_diff, -(G + G.T) / 2"),
            ("s_diff, (G + G.T) / 2", "s_diff, 1.1 * (G + G.T) / 2"),
            ("s_diff, (G + G.T) / 2", "s_diff, G"),
            ("mu_diff[updated] = 0", "pass"),
            ("mu_diff[second] += s_pair * h[first]", "pass"),
            ("mu_diff[first] += s_pair * h[second]", "pass"),
            ("(mu[second] - result[first])", "mu[second]"),
            ("(mu[first] - result[second])", "mu[first]"),
            ("h[first] * (mu[second] - result[first]) +", ""),
            ("+ h[second] * (mu[first] - result[second])", ""),
            ("m - S[:, None] * result)", "m)"),
        ],
    ),
    (
        *(test_margin_loss.test_gradient, margin_loss, ((2, 3, 3, 4),)),
        [
            ("(L > 0) * loss_diff", "0 * (L > 0) * loss_diff"),
            ("(L > 0) * loss_diff", "-1.0 * (L > 0) * loss_diff"),
            ("(L > 0) * loss_diff", "1.1 * (L > 0) * loss_diff"),
            ("(L > 0) * loss_diff", "(L > 0)"),
            ("(L > 0) * loss_diff", "(L >= 0) * loss_diff"),
            ("label, -slope", "label, 0 * slope"),
            ("other, slope", "other, 0 * slope"),
        ],
    ),
    (
        *(test_similarity_loss.test_gradient, similarity_loss, ((2, 3, 4), 3)),
        [
            ("valid * slope * loss_diff", "0.0 * slope * loss_diff"),
            ("valid * slope * loss_diff", "-1.0 * valid * slope * loss_diff"),
            ("valid * slope * loss_diff", "1.1 * valid * slope * loss_diff"),
            ("valid * slope * loss_diff", "valid * slope"),
            ("valid * slope * loss_diff", "slope * loss_diff"),
            ("s > threshold, -1.0)", "s > threshold, 0.0)"),
            ("s > threshold, -1.0)", "s < threshold, -1.0)"),  # the printed formula
        ],
    ),
    (
        *(test_interp.test_size_and_gradient, interp, test_interp.CASES[0]),
        [
            ("return A.T @ top_diff @ B", "return 0 * A.T @ top_diff @ B"),
            ("return A.T @ top_diff @ B", "return -A.T @ top_diff @ B"),
            ("return A.T @ top_diff @ B", "return 1.1 * A.T @ top_diff @ B"),
            ("return A.T @ top_diff @ B", "return (A > 0.5).T @ top_diff @ B"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("case", "old", "new"),
    [(case[:3], *edit) for case in MUTATIONS for edit in case[3]],
    ids=[f"{case[1].__name__}: {new}" for case in MUTATIONS for _, new in case[3]],
)
def test_a_wrong_backward_shows_red(monkeypatch, case, old, new):
    test, twin, arguments = case
    test(*arguments)  # green without the edit
    forward, backward = inspect.getsource(twin).split("\ndef backward")
    assert backward.count(old) == 1, f"{old!r} is not in {twin.__name__}.backward: edit this list"
    name = twin.__name__.rpartition(".")[2]
    mutant = types.ModuleType(name)
    exec(f"{forward}\ndef backward{backward.replace(old, new)}", mutant.__dict__)
    monkeypatch.setitem(test.__globals__, name, mutant)
    with pytest.raises(AssertionError):
        test(*arguments)
