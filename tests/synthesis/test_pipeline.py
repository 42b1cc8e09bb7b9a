import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import AxisType

from sevi_jax.config import ORIGINAL_BETA
from sevi_jax.physics.types import ImageSpec
from sevi_jax.synthesis import pipeline
from sevi_jax.synthesis.pipeline import SynthesisSpec, draw_pictures
from sevi_jax.synthesis.prior import ShellPrior

RENDERERS = ("electrons", "poisson")
BATCH = 8
ROWS = ((0.35, 1.0, 1.0, 0.65), (0.43, 1.434, 0.85, 0.5), (0.25, 1.24, 0.55, 0.5))


def prior(low, high, shells=2):
    return (ShellPrior((0.3, 0.9), (0.005, 0.009), (low, high), ROWS),) * shells


# 2500 to 6000 electrons of a shell, 1024 at a time: numbers of chunks differ within the batch.
SPECS = {
    renderer: SynthesisSpec(prior(2500, 6000), ImageSpec(32, fold=True), renderer, chunk=1024)
    for renderer in RENDERERS
}

# all twelve orders, and a number of electrons for each picture
ORIGINAL = dataclasses.replace(
    SPECS["electrons"],
    prior=(ShellPrior((0.3, 0.9), (0.005, 0.009), (2500, 6000), ORIGINAL_BETA),) * 2,
    exposure=(0.1, 1.0),
)


def mesh_of(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def compiled(spec, devices, number=BATCH):
    draw = functools.partial(draw_pictures, number=number, spec=spec, mesh=mesh_of(devices))
    return jax.jit(draw).lower(jax.random.key(0)).compile()


@functools.cache
def compiled_small(renderer, devices):
    return compiled(SPECS[renderer], devices)


def pictures(renderer, seed, devices=4):
    return jax.device_get(compiled_small(renderer, devices)(jax.random.key(seed)))


@pytest.mark.parametrize("number", [4, BATCH])  # one picture of a device is no loop for XLA
def test_pictures_do_not_depend_on_the_number_of_devices(number):
    programs = [compiled(ORIGINAL, devices, number) for devices in (1, 4)]
    for seed in range(5):
        one, four = (jax.device_get(program(jax.random.key(seed))) for program in programs)
        assert one.counts.shape == (number, 16, 16)
        assert one.counts.dtype == np.int32
        jax.tree.map(np.testing.assert_array_equal, one, four)


def test_poisson_counts_depend_on_the_number_of_devices_by_rounding_only():
    for seed in range(5):
        one, four = (pictures("poisson", seed, devices) for devices in (1, 4))
        jax.tree.map(np.testing.assert_array_equal, one.params, four.params)
        np.testing.assert_array_equal(one.attempts, four.attempts)
        # Two or eight pictures of a device are vectorised differently. A mean that differs in its
        # last digits moves a count by one, once in some 10^5 pixels.
        assert np.abs(one.counts - four.counts).max() <= 1
        assert (one.counts != four.counts).sum() <= 2


@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_device_draws_its_part_without_talking_to_others(renderer):
    program = compiled_small(renderer, 4)
    text = program.as_text()
    assert "num_partitions=4" in text
    collective = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    assert not [line for line in text.splitlines() if re.search(collective, line)]
    for array in jax.tree.leaves(program(jax.random.key(0))):
        assert array.sharding.spec[0] == "data"
        assert {shard.data.shape[0] for shard in array.addressable_shards} == {BATCH // 4}


@pytest.mark.parametrize("renderer", RENDERERS)
def test_pictures_are_a_function_of_the_key(renderer):
    first, again, other = (pictures(renderer, seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    flat = np.concatenate([first.counts, other.counts]).reshape(2 * BATCH, -1)
    assert len(np.unique(flat, axis=0)) == 2 * BATCH
    radii = np.concatenate([first.params.radius, other.params.radius])
    assert len(np.unique(radii)) == radii.size


def test_every_electron_is_counted_once():
    # R <= 0.9 and 8 sd of sigma end before the detector does, so none can be outside.
    drawn = pictures("electrons", 3)
    assert drawn.params.electrons.min() >= 2500
    np.testing.assert_array_equal(drawn.counts.sum((1, 2)), drawn.params.electrons.sum(1))


def test_chunks_are_cut_at_the_number_of_electrons():
    render = jax.jit(pipeline.render_electrons, static_argnums=(2, 3))
    params = jax.tree.map(lambda v: jnp.asarray(v[0]), pictures("electrons", 6).params)
    # fewer than a chunk of 64, whole chunks, one more and one fewer, and none
    for numbers in ((1, 0), (0, 63), (64, 128), (65, 127), (1000, 3), (0, 0)):
        params = params.replace(electrons=jnp.asarray(numbers, jnp.int32))
        assert int(render(jax.random.key(0), params, ImageSpec(16), 64).sum()) == sum(numbers)


def test_poisson_totals_are_poisson():
    totals, means = [], []
    for seed in range(40):
        drawn = pictures("poisson", seed)
        totals.append(drawn.counts.sum((1, 2)))
        means.append(drawn.params.electrons.sum(1))
    totals, means = (np.concatenate(v).astype(float) for v in (totals, means))
    z = (totals - means) / np.sqrt(means)
    # 320 numbers close to standard normal: mean, and mean square (variance 2), 4.4 sd each:
    # false-alarm rate 2e-5.
    assert abs(z.mean()) < 4.4 / z.size**0.5
    assert abs((z**2).mean() - 1) < 4.4 * (2 / z.size) ** 0.5
    assert (totals != means).any()


def test_renderers_draw_the_same_shells_and_alike_pictures():
    electrons, poisson = (pictures(renderer, 5) for renderer in ("electrons", "poisson"))
    jax.tree.map(np.testing.assert_array_equal, electrons.params, poisson.params)
    # Two independent pictures of the same means: their difference has the variance of the sum,
    # a little less as one number of electrons is fixed. False-alarm rate about 1e-5.
    difference = (electrons.counts - poisson.counts).astype(float)
    total = (electrons.counts + poisson.counts).astype(float)
    bright = total > 50
    z = difference[bright] ** 2 / total[bright] - 1
    assert abs(z.sum()) < 4.5 * (2 * z.size) ** 0.5


def test_exposure_is_log_uniform_and_common_to_the_shells():
    exact = SynthesisSpec(prior(10**6, 10**6), ImageSpec(16), "poisson")
    spec = dataclasses.replace(exact, exposure=(0.01, 2.0))

    @functools.partial(jax.jit, static_argnums=1)
    def electrons(keys, spec):
        return jax.vmap(lambda key: pipeline.draw_picture(key, spec).params.electrons)(keys)

    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(electrons(keys, spec))
    assert drawn.dtype == np.int32
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    law = scipy.stats.loguniform(0.01, 2)
    assert scipy.stats.kstest(drawn[:, 0] / 1e6, law.cdf).pvalue > 1e-5  # false-alarm rate
    assert (np.asarray(electrons(keys[:3], exact)) == 10**6).all()


def test_memory_does_not_grow_with_the_electrons():
    sizes = []
    for number in (100_000, 2_000_000):
        spec = SynthesisSpec(prior(number, number, shells=1), ImageSpec(32, fold=True), chunk=4096)
        memory = compiled(spec, 1).memory_analysis()
        sizes.append(memory.temp_size_in_bytes)
    small, large = sizes
    assert small > 0
    assert large <= 1.01 * small
    # 2 million positions alone would be 16 MB
    assert large < 2_000_000
