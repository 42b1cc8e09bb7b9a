"""The CPU's matrix-product convolution against XLA's and against a float64 loop."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sevi_jax.network.cpu.conv import conv_by_matmul, conv_general_dilated, matmul_is_faster

_NHWC = ("NHWC", "HWIO", "NHWC")


def _operands(size, kernel, dtype=jnp.float32):
    """Four pictures of 3 channels, a kernel to 5 features, and torch's padding."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *size, 3))
    weights = rng.normal(size=(*kernel, 3, 5))
    padding = tuple((k // 2, k // 2) for k in kernel)
    return jnp.asarray(x, dtype), jnp.asarray(weights, dtype), padding


def _value_and_gradients(convolution, x, weights):
    """The convolution, and what it sends back for one fixed cotangent."""
    y, vjp = jax.vjp(convolution, x, weights)
    return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


class MatmulTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(
        # size, kernel, strides: odd and even, non-square, maps smaller than it
        ((5, 4), (1, 1), (1, 1)),
        ((5, 4), (1, 1), (2, 2)),
        ((1, 1), (3, 3), (1, 1)),
        ((2, 2), (3, 3), (1, 1)),
        ((5, 4), (3, 3), (1, 1)),
        ((2, 2), (3, 3), (2, 2)),
        ((1, 6), (3, 3), (2, 2)),
        ((5, 4), (3, 3), (2, 2)),
        ((4, 3), (3, 1), (1, 2)),
    )
    def test_agrees_with_xla_forward_and_backward(self, size, kernel, strides):
        self._check(size, kernel, strides)

    @chex.variants(with_jit=True)  # one by one, its 49 products would be slow
    def test_agrees_with_xla_for_the_stem(self):
        self._check((6, 5), (7, 7), (2, 2))

    def _check(self, size, kernel, strides):
        x, weights, padding = _operands(size, kernel)
        ours = partial(conv_by_matmul, strides=strides, padding=padding)
        theirs = partial(
            lax.conv_general_dilated,
            window_strides=strides,
            padding=padding,
            dimension_numbers=_NHWC,
        )
        found = self.variant(partial(_value_and_gradients, ours))(x, weights)
        expected = jax.jit(partial(_value_and_gradients, theirs))(x, weights)
        chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def test_agrees_with_a_float64_loop_under_uneven_padding():
    x, weights, _ = _operands((3, 2), (3, 2))
    strides, padding = (2, 1), ((2, 1), (0, 3))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    kernel = np.asarray(weights, np.float64)
    expected = np.zeros((4, 2, 4, 5))
    for row in range(2):
        for column in range(4):
            window = padded[:, 2 * row : 2 * row + 3, column : column + 2]
            expected[:, row, column] = np.einsum("bhwc,hwcf->bf", window, kernel)
    found = jax.jit(partial(conv_by_matmul, strides=strides, padding=padding))(x, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_sums_in_float32():
    x, weights, padding = _operands((2, 2), (3, 3), jnp.bfloat16)
    found = conv_by_matmul(x, weights, (1, 1), padding)
    assert found.dtype == jnp.bfloat16
    exact = conv_by_matmul(x.astype(jnp.float32), weights.astype(jnp.float32), (1, 1), padding)
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        ((2, 2), 3, 1, True),
        ((3, 3), 3, 1, False),
        ((2, 5), 3, 1, False),
        ((4, 4), 3, 2, True),  # the output is 2 x 2: slow backward
        ((6, 6), 3, 2, False),
        ((12, 12), 7, 2, True),
        ((1024, 1024), 7, 2, False),
        ((256, 256), 1, 2, True),
    ],
)
def test_small_maps_and_1x1_kernels_take_the_matmul_form(size, kernel, stride, expected):
    padding = ((kernel // 2, kernel // 2),) * 2
    assert matmul_is_faster(size, (kernel, kernel), (stride, stride), padding) is expected


def _primitives(size, kernel, **options):
    x, weights, padding = _operands(size, kernel)
    call = partial(conv_general_dilated, dimension_numbers=_NHWC, **options)
    jaxpr = jax.make_jaxpr(lambda x, w: call(x, w, (1, 1), padding))(x, weights)
    return set(re.findall(r" = (\w+)", str(jaxpr)))  # of what is called, too


def test_form_is_chosen_from_backend_and_shapes(monkeypatch):
    assert "conv_general_dilated" not in _primitives((2, 2), (3, 3))
    assert "conv_general_dilated" in _primitives((8, 8), (3, 3))
    # What the other form cannot do.
    assert "conv_general_dilated" in _primitives((2, 2), (3, 3), rhs_dilation=(2, 2))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in _primitives((2, 2), (3, 3))


@pytest.mark.parametrize("size", [(2, 2), (8, 8)])
def test_other_conventions_are_handed_to_xla(size):
    x, weights, padding = _operands(size, (3, 3))
    expected = conv_general_dilated(x, weights, (1, 1), padding, dimension_numbers=_NHWC)
    found = conv_general_dilated(
        x.transpose(0, 3, 1, 2), weights.transpose(3, 2, 0, 1), (1, 1), "SAME"
    )
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "kernel"), [((2, 2), (3, 3)), ((5, 4), (1, 1))])
def test_batch_stays_sharded_without_collectives(size, kernel):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x, weights, padding = _operands(size, kernel)
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))
    call = jax.jit(partial(conv_by_matmul, strides=(1, 1), padding=padding))
    compiled = call.lower(x, weights).compile()
    text = compiled.as_text()
    assert not any(name in text for name in ("all-gather", "all-reduce", "all-to-all", "permute"))
    assert call(x, weights).sharding.is_equivalent_to(x.sharding, 4)
