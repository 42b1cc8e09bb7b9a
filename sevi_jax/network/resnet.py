"""ResNet-18, -34, -50 and -101 on pictures and radial profiles: torchvision's, in flax.linen.

Knows nothing of shells, losses or sharding. Batch statistics are those of the whole batch
wherever the batch lies: under `jax.jit` with the batch sharded over devices the means inside
BatchNorm are global ones.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from sevi_jax.network.cpu.conv import conv_general_dilated
from sevi_jax.network.cpu.pool import max_pool

MOMENTUM = 0.9  # of BatchNorm's running averages
# Blocks per stage, and whether they are bottlenecks (He et al. 2015, table 1).
_STAGES: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
_STEMS = ("imagenet", "small")
DEPTHS = tuple(_STAGES)


class ResNet(nn.Module):
    """Residual network from a batch of pictures to one vector of numbers each.

    The layers are torchvision's (bottlenecks in their v1.5 form: the stride is on the 3x3
    convolution), with torch's explicit padding rather than SAME, which differs at stride 2.
    He et al. 2015, arXiv:1512.03385.

    Attributes:
        depth: 18, 34, 50 or 101.
        outputs: Length of the vector.
        dtype: Type the layers compute in. Parameters, batch statistics and the last layer
            stay float32.
        stem: "imagenet" is the 7x7 convolution and the max-pool, both of stride 2; "small" is
            one 3x3 convolution of stride 1, for pictures of some 32 pixels.
        width: Channels of the first stage; 64 is the published network.
        conv: What computes a convolution, with the signature of `lax.conv_general_dilated`.
    """

    depth: int
    outputs: int
    dtype: Any = jnp.float32
    stem: str = "imagenet"
    width: int = 64
    conv: Callable[..., Array] = conv_general_dilated

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Apply the network.

        Args:
            images: [B, H, W, channels], float32; a picture has one channel.
            train: Whether BatchNorm uses the batch's own statistics (and updates the running
                ones, in the collection `batch_stats`) or the running ones.

        Returns:
            [B, outputs], float32.

        Raises:
            ValueError: If the depth or the stem is unknown.
        """
        if self.depth not in _STAGES:
            names = ", ".join(map(str, DEPTHS))
            raise ValueError(f"model.depth={self.depth} must be one of {names}")
        if self.stem not in _STEMS:
            names = ", ".join(_STEMS)
            raise ValueError(f"model.stem={self.stem} must be one of {names}")
        # a map of one column, such as a radial profile, has nothing to slide over sideways
        column = images.shape[2] == 1
        conv = partial(_convolution, column=column, dtype=self.dtype, conv=self.conv)
        norm = partial(_normalise, dtype=self.dtype, train=train)
        x = images.astype(self.dtype)
        if self.stem == "imagenet":
            x = conv(x, self.width, 7, stride=2, name="stem_conv")
        else:
            x = conv(x, self.width, 3, name="stem_conv")
        x = nn.relu(norm(x, name="stem_norm"))
        if self.stem == "imagenet":
            x = max_pool(x)

        blocks, bottleneck = _STAGES[self.depth]
        block = _Bottleneck if bottleneck else _Basic
        for stage, count in enumerate(blocks):
            for index in range(count):
                x = block(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and index == 0 else 1,
                    conv=conv,
                    norm=norm,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        # torch's initial weights of a linear layer: uniform within 1 / sqrt(inputs).
        weights = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return nn.Dense(self.outputs, dtype=jnp.float32, kernel_init=weights, name="head")(x)


class _Basic(nn.Module):
    """Two 3x3 convolutions and the shortcut around them."""

    features: int
    stride: int
    conv: Callable[..., Array]
    norm: Callable[..., Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = self.conv(x, self.features, 3, stride=self.stride, name="conv1")
        y = nn.relu(self.norm(y, name="norm1"))
        y = self.conv(y, self.features, 3, name="conv2")
        y = self.norm(y, name="norm2")
        return nn.relu(y + _shortcut(self, x, self.features))


class _Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times the features, and the shortcut around them."""

    features: int
    stride: int
    conv: Callable[..., Array]
    norm: Callable[..., Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = self.conv(x, self.features, 1, name="conv1")
        y = nn.relu(self.norm(y, name="norm1"))
        y = self.conv(y, self.features, 3, stride=self.stride, name="conv2")
        y = nn.relu(self.norm(y, name="norm2"))
        y = self.conv(y, 4 * self.features, 1, name="conv3")
        y = self.norm(y, name="norm3")
        return nn.relu(y + _shortcut(self, x, 4 * self.features))


def _shortcut(block: _Basic | _Bottleneck, x: Array, features: int) -> Array:
    """The input itself, or its 1x1 projection where the block changes its shape."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    x = block.conv(x, features, 1, stride=block.stride, name="shortcut_conv")
    return block.norm(x, name="shortcut_norm")


def _convolution(
    x: Array,
    features: int,
    size: int,
    *,
    stride: int = 1,
    column: bool,
    dtype: Any,
    conv: Callable[..., Array],
    name: str,
) -> Array:
    """A square convolution without bias, padded as torch's `padding=size // 2`.

    With `column`, the kernel has one column only.
    """
    sides = (size, 1 if column else size)
    return nn.Conv(
        features,
        sides,
        strides=(stride, 1 if column else stride),
        padding=tuple((side // 2, side // 2) for side in sides),
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=conv,
        name=name,
    )(x)


def _normalise(x: Array, *, dtype: Any, train: bool, name: str) -> Array:
    """Batch normalisation in float32, whatever the type around it; XLA fuses the casts."""
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=MOMENTUM, epsilon=1e-5, dtype=jnp.float32, name=name
    )
    return norm(x.astype(jnp.float32)).astype(dtype)
