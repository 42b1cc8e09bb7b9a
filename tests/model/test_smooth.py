"""The smooth functions of a detector: backgrounds and the logarithms of efficiencies."""

import numpy as np

from sevi_jax.model.means import BACKGROUNDS, EFFICIENCY_TERMS, smooth_terms

ORDER = 4


def terms_at(row, column):
    found = smooth_terms(row, column, BACKGROUNDS["smooth"])
    return np.stack([np.broadcast_to(np.asarray(t, np.float64), row.shape) for t in found], axis=-1)


def test_terms_are_orthogonal_on_the_square():
    node, weight = np.polynomial.legendre.leggauss(ORDER + 1)
    row, column = (x.astype(np.float32) for x in np.meshgrid(node, node, indexing="ij"))
    found = terms_at(row, column)
    products = np.einsum("ij,ijk,ijl->kl", np.outer(weight, weight), found, found)
    scale = 1 / np.sqrt(np.diagonal(products))
    np.testing.assert_allclose(products * np.outer(scale, scale), np.eye(len(scale)), atol=1e-5)
    np.testing.assert_allclose(found[..., 0], 1.0)


def test_every_polynomial_to_the_fourth_degree_is_a_sum_of_terms():
    """A detector whose efficiency has three lobes, r^3 cos 3t, is one of them."""
    rng = np.random.default_rng(1)
    row, column = rng.uniform(-1, 1, (2, 400)).astype(np.float32)
    found = terms_at(row, column)
    for i in range(ORDER + 1):
        for k in range(ORDER + 1 - i):
            wanted = row.astype(float) ** i * column.astype(float) ** k
            amounts = np.linalg.lstsq(found, wanted, rcond=None)[0]
            np.testing.assert_allclose(found @ amounts, wanted, atol=2e-5)
    assert found.shape[-1] - 1 == EFFICIENCY_TERMS  # an efficiency has no constant
