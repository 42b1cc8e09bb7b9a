"""Convolution for `nn.Conv(conv_general_dilated=...)` in forms that suit XLA's CPU backend.

Knows nothing of networks. On the CPU, the convolution of jax 0.10.1 runs at the speed of a matrix
product, with two exceptions (measured on two AVX-512 cores, float32, batch 32):

- The kernel has more elements than the map it slides over, going forward (the input) or backward
  (the output). XLA then exchanges map and kernel and falls out of its fast library into plain
  loops: 1 to 7 instead of 100 GFLOP/s. In a ResNet on 64 x 64 pictures these are the 2 x 2 maps of
  the last stage, which held nine tenths of a training step.
- 1x1 kernels: the gradient of the kernel takes four times as long as the matrix product it is.

Those two are written as matrix products. 3x3 kernels of stride 1 take Winograd's algorithm, which
needs fewer products (`winograd.py`): forward and for the gradient of the input from 64 channels
on, for the gradient of the kernel from 32. The gradient of the kernel of a first layer with one
channel is one matrix product per strip of the pictures. Where there are several devices, the
gradients of kernels are left to XLA. Everything else, every other type than float32, and every
other backend, is
`lax.conv_general_dilated`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from sevi_jax.network import cpu
from sevi_jax.network.cpu import winograd

_FORMS = ("matmul", "winograd", "first_layer")
_NHWC = lax.ConvDimensionNumbers(
    lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2)
)
# Fewer channels, and what goes before and after the products costs more than is saved.
_CHANNELS, _CHANNELS_OF_KERNEL = 64, 32
_STRIP_PIXELS = 2**14  # of the outputs, in which the gradient of the first layer's kernel is taken


def conv_general_dilated(  # noqa: PLR0913  # the arguments of what it stands for
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> Array:
    """`lax.conv_general_dilated`, as matrix products where the CPU needs them.

    The form is chosen from the backend and the shapes, so once, when the call is traced. A batch
    sharded over devices stays so: no form moves anything between pictures.

    Args:
        lhs: Input; only [B, H, W, C] may take the other form.
        rhs: Kernel; only [h, w, C, features] may take the other form.
        window_strides: Stride of each spatial axis.
        padding: As in `lax.conv_general_dilated`; only pairs (low, high) that are not negative
            may take the other form.
        lhs_dilation: As in `lax.conv_general_dilated`; only 1 may take the other form.
        rhs_dilation: As `lhs_dilation`.
        dimension_numbers: As in `lax.conv_general_dilated`.
        feature_group_count: As in `lax.conv_general_dilated`; only 1 may take the other form.
        precision: Handed on.

    Returns:
        What `lax.conv_general_dilated` returns, to the rounding of the sums.
    """
    if (
        any(map(cpu.uses, _FORMS))
        and lhs.ndim == 4
        and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == _NHWC
        and not isinstance(padding, str)
        and all(low >= 0 and high >= 0 for low, high in padding)
        and math.prod(lhs_dilation or ()) == math.prod(rhs_dilation or ()) == 1
        and feature_group_count == 1
    ):
        sizes = lhs.shape[1:3], rhs.shape[:2], window_strides, padding
        if cpu.uses("matmul") and matmul_is_faster(*sizes):
            return conv_by_matmul(lhs, rhs, window_strides, padding, precision=precision)
        if lhs.dtype == rhs.dtype == jnp.float32:
            pairs = tuple((low, high) for low, high in padding)
            return _conv_by_parts(lhs, rhs, tuple(window_strides), pairs, precision)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_by_parts(
    x: Array,
    kernel: Array,
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    precision: lax.PrecisionLike,
) -> Array:
    """A convolution whose value and two gradients take the form that is fastest for each."""
    if tile := _winograd_tile(x.shape, kernel.shape, strides, padding, _CHANNELS):
        return winograd.convolve(x, kernel, tile, precision)
    return _conv_by_xla(x, kernel, strides, padding, precision)


def _forward(x, kernel, strides, padding, precision):
    return _conv_by_parts(x, kernel, strides, padding, precision), (x, kernel)


def _backward(strides, padding, precision, saved, dy):
    x, kernel = saved
    shapes = x.shape, kernel.shape, strides, padding
    sizes = kernel.shape[:2], strides, padding

    def by_xla(x: Array, kernel: Array) -> Array:
        return _conv_by_xla(x, kernel, strides, padding, precision)

    if tile := _winograd_tile(*shapes, _CHANNELS):
        dx = winograd.input_gradient(dy, kernel, tile, precision)
    else:
        (dx,) = jax.linear_transpose(partial(by_xla, kernel=kernel), x)(dy)
    # With several devices, each of the products would be summed over those that hold the batch.
    is_alone = jax.device_count() == 1
    if is_alone and (tile := _winograd_tile(*shapes, _CHANNELS_OF_KERNEL)):
        dkernel = winograd.kernel_gradient(x, dy, tile, precision)
    elif is_alone and cpu.uses("first_layer") and x.shape[3] == 1:
        dkernel = _kernel_gradient_of_one_channel(x, dy, *sizes, precision)
    else:
        (dkernel,) = jax.linear_transpose(partial(by_xla, x), kernel)(dy)
    return dx, dkernel


_conv_by_parts.defvjp(_forward, _backward)


def _kernel_gradient_of_one_channel(x, dy, size, strides, padding, precision):
    """[elements of the kernel, pixels] times [pixels, features], a strip of rows at a time."""
    batch, height, width, features = dy.shape
    rows = max(1, min(height, _STRIP_PIXELS // (batch * width)))
    count = -(-height // rows)
    x = _phases(x, (count * rows, width), size, strides, padding)
    dy = jnp.pad(dy, ((0, 0), (0, count * rows - height), (0, 0), (0, 0)))
    reach = (size[0] - 1) // strides[0]

    def add(n: Array, total: Array) -> Array:
        strip = lax.dynamic_slice_in_dim(x, n * rows, rows + reach, 3)
        met = jnp.stack(_met(strip, (rows, width), size))[..., 0]
        part = lax.dynamic_slice_in_dim(dy, n * rows, rows, 1).reshape(-1, features)
        return total + jnp.matmul(met, part, precision=precision)

    total = lax.fori_loop(0, count, add, jnp.zeros((math.prod(size), features), x.dtype))
    return total.reshape(*size, 1, features)


def _phases(x, outputs, size, strides, padding):
    """[stride, stride, B, H / stride, W / stride, C]: every stride-th pixel together.

    So an element of the kernel meets neighbours. With padding, for that many outputs.
    """
    grid = [n + (k - 1) // s for n, k, s in zip(outputs, size, strides, strict=True)]
    margins = [
        (low, n * s - low - pixels, 0)
        for (low, _), n, s, pixels in zip(padding, grid, strides, x.shape[1:3], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *margins, (0, 0, 0)))
    shape = (x.shape[0], grid[0], strides[0], grid[1], strides[1], x.shape[3])
    return x.reshape(shape).transpose(2, 4, 0, 1, 3, 5)


def _met(phases, outputs, size):
    """For each element of the kernel the pixels that it meets, [B outputs, C]."""
    rows, columns = outputs
    (down, right), channels = phases.shape[:2], phases.shape[-1]
    return [
        phases[i % down, j % right, :, i // down :, j // right :][:, :rows, :columns].reshape(
            -1, channels
        )
        for i in range(size[0])
        for j in range(size[1])
    ]


def _conv_by_xla(x, kernel, strides, padding, precision):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=_NHWC, precision=precision
    )


def _winograd_tile(shape, kernel, strides, padding, channels: int) -> int:
    """Side of the tiles of Winograd's algorithm, or 0 where it does not apply or pay."""
    if (
        not cpu.uses("winograd")
        or kernel[:2] != (3, 3)
        or strides != (1, 1)
        or padding != ((1, 1), (1, 1))
        or min(kernel[2:]) < channels
    ):
        return 0
    tiles = shape[0] * -(-shape[1] // 4) * -(-shape[2] // 4)
    return 4 if tiles >= 64 else 2


def matmul_is_faster(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> bool:
    """Whether XLA's CPU convolution has a slow spot at these spatial shapes (module docstring).

    Args:
        size: Height and width of the input.
        kernel: Height and width of the kernel.
        strides: Stride of each axis.
        padding: Pairs (low, high) of each axis.
    """
    outputs = map(_output_size, size, kernel, strides, padding)
    smallest_map = min(math.prod(size), math.prod(outputs))
    return math.prod(kernel) == 1 or math.prod(kernel) > smallest_map


def conv_by_matmul(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    precision: lax.PrecisionLike = None,
) -> Array:
    """Convolution as a sum over the kernel's elements, each a matrix product over the channels.

    Element (i, j) touches only the outputs whose window finds a pixel there, not padding: a 3x3
    kernel on a 1x1 map costs one product of nine.

    Args:
        x: [B, H, W, C].
        kernel: [h, w, C, features].
        strides: Stride of each spatial axis.
        padding: Pairs (low, high) of each spatial axis, not negative.
        precision: Of the matrix products.

    Returns:
        [B, H', W', features].
    """
    axes = list(zip(x.shape[1:3], kernel.shape[:2], strides, padding, strict=True))
    rows, columns = (_taps(*axis) for axis in axes)
    # As XLA does it, sums of half-precision products are kept in float32.
    sum_type = jnp.float32 if x.dtype in (jnp.bfloat16, jnp.float16) else x.dtype
    zero = jnp.zeros((), sum_type)
    shape = (x.shape[0], *(_output_size(*axis) for axis in axes), kernel.shape[3])
    total = jnp.zeros(shape, sum_type)
    for i, (row_slice, row_margin) in rows.items():
        for j, (column_slice, column_margin) in columns.items():
            product = jnp.matmul(
                x[:, row_slice, column_slice],
                kernel[i, j],
                precision=precision,
                preferred_element_type=sum_type,
            )
            total += lax.pad(product, zero, ((0, 0, 0), row_margin, column_margin, (0, 0, 0)))
    return total.astype(x.dtype)


def _output_size(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> int:
    return max(0, size + sum(padding) - kernel) // stride + 1


def _taps(
    size: int, kernel: int, stride: int, padding: tuple[int, int]
) -> dict[int, tuple[slice, tuple[int, int, int]]]:
    """What each element of a kernel meets along one axis.

    Returns:
        For the elements that meet the input at all: the input pixels met, and the outputs before
        and after those that meet them (with a third number, 0, as `lax.pad` takes it).
    """
    outputs = _output_size(size, kernel, stride, padding)
    taps = {}
    for element in range(kernel):
        offset = element - padding[0]
        inside = [k for k in range(outputs) if 0 <= k * stride + offset < size]
        if inside:
            first, last = inside[0], inside[-1]
            pixels = slice(first * stride + offset, last * stride + offset + 1, stride)
            taps[element] = (pixels, (first, outputs - 1 - last, 0))
    return taps
