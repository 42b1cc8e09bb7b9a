"""The CPU's own forms of convolution and pooling against XLA's and flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sevi_jax.network import cpu, resnet
from sevi_jax.network.cpu import winograd
from sevi_jax.network.cpu.conv import conv_general_dilated
from sevi_jax.network.cpu.pool import max_pool

NHWC = ("NHWC", "HWIO", "NHWC")


def _normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _exact(x, kernel, dy, stride=1, padding=1):
    """The convolution and its two gradients in NumPy's float64, by the definition."""
    reach = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    y, dx, dkernel = np.zeros(dy.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(reach):
        for j in range(reach):
            rows = slice(i, i + stride * dy.shape[1], stride)
            columns = slice(j, j + stride * dy.shape[2], stride)
            met = padded[:, rows, columns]
            y += met @ kernel[i, j]
            dx[:, rows, columns] += dy @ kernel[i, j].T
            dkernel[i, j] = np.einsum("bhwc,bhwf->cf", met, dy)
    return y, dx[:, padding : padding + x.shape[1], padding : padding + x.shape[2]], dkernel


def _near(found, exact, tolerance):
    error = np.abs(np.asarray(found, np.float64) - exact).max()
    assert error <= tolerance * np.abs(exact).max()


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("size", [(8, 8), (5, 11), (64, 3)])
def test_winograd_is_the_convolution(tile, size):
    x, kernel = _normal(0, 3, *size, 33), _normal(1, 3, 3, 33, 40)
    dy = _normal(2, 3, *size, 40)
    y, dx, dkernel = _exact(x, kernel, dy)
    x, kernel, dy = (array.astype(np.float32) for array in (x, kernel, dy))
    _near(winograd.convolve(x, kernel, tile), y, 3e-6)
    _near(winograd.input_gradient(dy, kernel, tile), dx, 3e-6)
    _near(winograd.kernel_gradient(x, dy, tile), dkernel, 3e-6)


@pytest.mark.parametrize(
    ("size", "channels", "features", "reach", "stride"),
    [
        ((16, 16), 128, 130, 3, 1),  # Winograd
        ((9, 7), 32, 40, 3, 1),  # only the gradient of the kernel
        ((66, 130), 1, 8, 7, 2),  # the first layer
        ((20, 20), 16, 24, 3, 2),  # XLA's
        ((20, 17), 33, 32, 5, 3),
    ],
)
def test_forms_and_their_gradients(size, channels, features, reach, stride):
    x, kernel = _normal(0, 33, *size, channels), _normal(1, reach, reach, channels, features)
    outputs = [(n - 1) // stride + 1 for n in size]
    dy = _normal(2, 33, *outputs, features)
    exact = _exact(
        np.pad(x, ((0, 0), (0, stride - 1), (0, stride - 1), (0, 0))),
        kernel,
        dy,
        stride,
        reach // 2,
    )
    x, kernel, dy = (jnp.asarray(array, jnp.float32) for array in (x, kernel, dy))

    @jax.jit
    def found(x, kernel, dy):
        def call(x, kernel):
            padding = ((reach // 2,) * 2,) * 2
            return conv_general_dilated(
                x, kernel, (stride,) * 2, padding, dimension_numbers=numbers
            )

        numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, NHWC)
        y, back = jax.vjp(call, x, kernel)
        return y, *back(dy)

    y, dx, dkernel = found(x, kernel, dy)
    _near(y, exact[0], 5e-6)
    _near(dx, exact[1][:, : size[0], : size[1]], 5e-6)
    _near(dkernel, exact[2], 5e-6)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 5)])
def test_pooling(size):
    x = jnp.asarray(_normal(3, 2, *size, 3), jnp.float32)

    def expected(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    y, back = jax.vjp(max_pool, x)
    z, back_expected = jax.vjp(expected, x)
    np.testing.assert_array_equal(y, z)
    dy = jnp.asarray(_normal(4, *y.shape), jnp.float32)
    np.testing.assert_allclose(back(dy)[0], back_expected(dy)[0], rtol=1e-6, atol=1e-6)


def _program(forms, pictures):
    """What JAX makes of a gradient through all kinds of layers, as text."""
    network = resnet.ResNet(depth=18, outputs=3, width=64)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), pictures, False))

    def loss(variables):
        found, _ = network.apply(variables, pictures, train=True, mutable=["batch_stats"])
        return jnp.sum(found**2)

    with cpu.only(forms):
        return str(jax.make_jaxpr(jax.grad(loss))(variables))


def test_each_form_is_switched(monkeypatch):
    monkeypatch.setitem(resnet._STAGES, 18, ((1, 1, 0, 0), False))
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # else some gradients are left to XLA
    pictures = np.zeros((2, 32, 32, 1), np.float32)
    switched = [cpu.FORMS, *([x for x in cpu.FORMS if x != form] for form in cpu.FORMS), ()]
    programs = [_program(forms, pictures) for forms in switched]
    assert len(set(programs)) == len(switched)
    assert _program(cpu.FORMS, pictures) == programs[0]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert _program(cpu.FORMS, pictures) == programs[-1]


def test_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'pools' is none of"), cpu.only(["pool", "pools"]):
        pass
    assert cpu.uses("pool")
