import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from sevi_jax.data.picture import Picture
from sevi_jax.errors import InputError
from sevi_jax.estimation import noise
from sevi_jax.estimation.goodness import judge_by_parts
from sevi_jax.estimation.preparing import expected_off, prepare, step_of
from sevi_jax.model.components import Shell
from sevi_jax.model.means import Layout
from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
from sevi_jax.results.fit import fit
from sevi_jax.synthesis.spectrometer import simulate

SHAPE = (120, 120)
SHELL = {"radius": 38.0, "sigma": 2.0, "electrons": 8e4, "beta": {2: 1.0}}


def drawn(seed, **conditions):
    return simulate([SHELL], SHAPE, seed, **conditions)


def pulls(found, true=8e4):
    """(value - truth) / error of the shell and of the centre."""
    shell = found.shells[0]
    pairs = [(shell.radius, 38.0), (shell.sigma, 2.0), (shell.beta[2], 1.0)]
    pairs += [(found.origin[0], 60.0), (found.origin[1], 60.0)]
    electrons = shell.electrons
    error = np.hypot(electrons.std_dev, shell.counting_error)
    found = [(v.nominal_value - t) / v.std_dev for v, t in pairs]
    return np.array([*found, (electrons.nominal_value - true) / error])


# 8 pulls beyond 4.5 in a test: 6e-6 of correct programs
FAR = 4.5


@pytest.fixture(scope="module")
def counts():
    return drawn(1)


class TestStep:
    def test_numbers_of_electrons(self):
        assert step_of(np.array([0.0, 1, 2, 5])) == 1

    def test_whole_multiples(self):
        assert step_of(np.array([0.0, 74, 37, 185])) == 37

    @pytest.mark.parametrize("kind", [np.float32, np.float64])
    @pytest.mark.parametrize("gain", [1 / 163, 0.0123456, 31.8529])
    def test_multiples_with_rounding(self, kind, gain):
        values = (np.random.default_rng(0).poisson(3.0, 1000) * gain).astype(kind)
        values[0] = kind(900 * gain)
        assert step_of(values.astype(np.float64)) == pytest.approx(gain, rel=1e-6)

    def test_no_multiples(self):
        assert step_of(np.random.default_rng(0).normal(10, 1, 1000)) == 0

    def test_multiples_but_for_a_few(self):
        values = np.random.default_rng(0).poisson(3.0, 1000) * 0.37
        values[::100] += 0.1
        assert step_of(values) < 0.3

    def test_nothing(self):
        assert step_of(np.zeros(10)) == 1


@pytest.fixture(scope="module")
def reference(counts):
    return fit(counts)


@pytest.fixture(scope="module")
def difference():
    picture = drawn(6, background=3.0, off_scale=1.0)
    assert picture.off is not None
    return fit(dataclasses.replace(picture, counts=picture.counts - picture.off, off=None))


class TestGain:
    @pytest.mark.parametrize("gain", [37.0, 1 / 163, 0.7123])
    def test_values_and_errors_are_those_of_counts(self, counts, reference, gain):
        values = (counts.counts * gain).astype(np.float32)
        found = fit(dataclasses.replace(counts, counts=values))
        errors = np.sqrt(np.diagonal(reference.covariance))
        assert found.gain == pytest.approx(gain, rel=1e-5)
        np.testing.assert_array_less(np.abs(found.values - reference.values) / errors, 0.05)
        np.testing.assert_allclose(np.sqrt(np.diagonal(found.covariance)), errors, rtol=0.02)
        assert any("multiples of" in note for note in found.notes)
        assert not found.warnings

    def test_of_a_camera_is_told_from_the_scatter(self, counts):
        values = np.rint(counts.counts * 9.7)
        values += np.random.default_rng(2).integers(-1, 2, SHAPE) * (values > 0)
        found = fit(dataclasses.replace(counts, counts=np.maximum(values, 0)))
        error = found.fitted.prepared.noise.gain_error
        assert 0.005 < error < 0.05
        assert abs(found.gain / 9.7 - 1) < 4 * error + 0.01
        assert np.abs(pulls(found)).max() < FAR
        assert any("estimated from the scatter" in note for note in found.notes)

    def test_given(self, counts):
        values = dataclasses.replace(counts, counts=counts.counts * 3, gain=3.0)
        assert fit(values).shells[0].electrons.n == pytest.approx(8e4, rel=0.02)
        with pytest.raises(InputError, match="gain"):
            fit(dataclasses.replace(values, gain=-1.0))


def test_smoothed_counts_are_said(counts):
    smooth = scipy.ndimage.gaussian_filter(counts.counts, 0.8)
    found = fit(dataclasses.replace(counts, counts=np.rint(smooth)))
    assert found.gain == 1  # and no gain far below 1
    assert any("scatter less" in warning for warning in found.warnings)


class TestPixelsThatDiffer:
    def test_their_scatter_is_found(self):
        # bright, so that f shows; the gain is not known either
        found = fit(simulate([SHELL | {"electrons": 4e5}], SHAPE, 3, scatter=0.1))
        size = found.fitted.prepared.noise
        assert abs(size.spread - 0.1) < 4 * size.spread_error
        assert 0.001 < size.spread_error < 0.01
        assert np.abs(pulls(found, 4e5)).max() < FAR
        assert found.p_value > 1e-3
        assert found.dispersion == 1
        assert any("pixels differ by" in note for note in found.notes)

    def test_weights_are_used(self):
        """Rings are bright: their errors grow by the share that the scatter adds."""
        bright = SHELL | {"electrons": 4e5}
        plain, scattered = (fit(simulate([bright], SHAPE, 1, scatter=f)) for f in (0, 0.1))
        assert scattered.dispersion == 1
        m = np.nan_to_num(plain.mean_electrons)
        # of a parameter that all pixels say something of, in proportion to their mean
        share = np.sqrt(np.sum(m) / np.sum(m / (1 + 0.01 * m)))
        ratio = scattered.shells[0].radius.s / plain.shells[0].radius.s
        assert share == pytest.approx(1.35, abs=0.2)
        assert ratio == pytest.approx(share, rel=0.15)

    def test_a_wrong_model_is_no_scatter(self, counts):
        wrong = dataclasses.replace(counts, origin=(60.8, 60.0))
        found = fit(wrong)
        assert found.p_value < 1e-3
        assert found.fitted.prepared.noise.spread < 0.03
        assert found.warnings


class TestOff:
    @pytest.mark.parametrize("background", [0.03, 4.0])
    @pytest.mark.parametrize("known", [False, True])
    def test_signal_is_right(self, background, known):
        picture = drawn(5, background=background, off_scale=0.7)
        if known:
            picture = dataclasses.replace(picture, off_scale=0.7)
        found = fit(picture)
        assert np.abs(pulls(found)).max() < FAR
        assert 1e-4 < found.p_value < 1 - 1e-4
        scale = found.fitted.prepared.noise
        if known:
            assert scale.off_scale_error == 0
        else:
            assert scale.off_scale == pytest.approx(0.7, abs=FAR * scale.off_scale_error)

    def test_expected_off_does_not_know_the_pixel_itself(self):
        counts = np.random.default_rng(0).poisson(2.0, (40, 40)).astype(float)
        used = np.ones(counts.shape, bool)
        first = expected_off(counts, used)
        assert first.mean() == pytest.approx(2.0, abs=0.15)
        counts[20, 20] += 50
        change = expected_off(counts, used) - first
        # the wide average, which has a little weight, is all that knows it
        assert 0 <= change[20, 20] < 0.1 * change[20, 21]

    def test_p_value_is_uniform(self):
        """Residuals of Poisson numbers about their true means; p of 1 in 1000 programs is less."""
        rng = np.random.default_rng(7)
        values = Values((np.array([20.0, 2.0, 3e3, 0.0]),), off_scale=0.8)
        model = Model((Shell((2,)),), Layout((0, 2), normal=True))
        found = []
        for level in np.repeat([0.05, 3.0], 40):
            off = rng.poisson(level, (64, 64)).astype(float)
            blank = Data(np.zeros((64, 64)), np.ones((64, 64)), noise=np.ones((64, 64)))
            mean = PictureModel(blank, model, values).mean(values)
            on = rng.poisson(np.maximum(mean, 0) + 0.8 * level).astype(float)
            prepared = prepare(Picture(on, off=off, off_scale=0.8))
            prepared = noise.less_off(prepared, 0.8, mean)
            picture = PictureModel(prepared.data, model, values)
            found.append(noise.judged(prepared, picture, values, 0).p_value)
        assert scipy.stats.kstest(found[:40], "uniform").pvalue > 5e-4
        assert scipy.stats.kstest(found[40:], "uniform").pvalue > 5e-4

    def test_without_counts(self, counts):
        with pytest.raises(InputError, match="off"):
            fit(dataclasses.replace(counts, off=np.zeros(SHAPE)))


class TestDifference:
    def test_signal_is_right(self, difference):
        assert np.abs(pulls(difference)).max() < FAR
        assert difference.p_value > 1e-3
        assert difference.gain == 1
        assert any("below 0" in note for note in difference.notes)

    def test_variance_is_that_of_both(self, difference):
        data, mean = difference.fitted.prepared.data, difference.mean_electrons
        ratio = data.noise / (mean + 6.0)
        assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
        assert ratio.std() < 0.15

    def test_unsaid_gain(self):
        picture = drawn(6, background=3.0, off_scale=1.0)
        assert picture.off is not None
        values = np.pi * (picture.counts - picture.off)
        values += np.random.default_rng(0).normal(0, 0.05, SHAPE)
        found = fit(dataclasses.replace(picture, counts=values, off=None))
        error = found.fitted.prepared.noise.gain_error
        assert abs(found.gain / np.pi - 1) < 4 * error
        assert np.abs(pulls(found)).max() < FAR

    def test_poisson_is_refused(self):
        values = np.arange(100.0).reshape(10, 10) - 3
        with pytest.raises(InputError, match="below 0"):
            fit(Picture(values, noise="poisson"))


class TestComb:
    @pytest.mark.parametrize("spread", [0.05, 0.1])
    def test_values_of_few_electrons_tell_gain_and_spread(self, spread):
        rng = np.random.default_rng(3)
        counts = rng.poisson(np.repeat([0.5, 2.0, 8.0], 3000))
        values = 2.5 * counts * (1 + spread * rng.standard_normal(len(counts)))
        found = noise.fit_comb(values, 2.7)
        assert found is not None
        gain, gain_error, width, width_error = found
        assert abs(gain - 2.5) < 4.5 * gain_error < 0.03
        assert abs(width - spread) < 4.5 * width_error < 0.1 * spread

    def test_smooth_values_have_no_comb(self):
        rng = np.random.default_rng(3)
        values = rng.gamma(2.0, 1.0, 9000)
        assert noise.fit_comb(values, 1.0) is None


class TestAmounts:
    def test_are_found_with_their_errors(self):
        rng = np.random.default_rng(0)
        row, column = np.mgrid[:96, :96] - 47.5
        distance = np.hypot(row, column)
        mean = 60 * np.exp(-0.5 * ((distance - 30) / 4) ** 2) + 1
        truth = np.array([2.0, 0.15**2])
        chosen = noise.contrasts(np.ones(mean.shape, bool), (48.0, 48.0))
        terms = np.stack([chosen.expected(mean), chosen.expected(mean**2)])
        pulls = []
        for _ in range(20):
            residual = rng.normal(0, np.sqrt(2 * mean + (0.15 * mean) ** 2))
            found = noise.fit_amounts(chosen.squares(residual), terms, chosen)
            pulls.append((found.values - truth) / np.sqrt(np.diagonal(found.covariance)))
        # 40 pulls: their root mean square is within 0.6 and 1.5 but for 1 in 1e4 programs
        assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.5

    def test_rings_that_are_missed_are_hardly_seen(self):
        row, column = np.mgrid[:96, :96] - 47.5
        distance = np.hypot(row, column)
        missed = np.where(distance < 40, np.sin(distance / 1.2), 0.0)
        chosen = noise.contrasts(np.ones(missed.shape, bool), (48.0, 48.0))
        inside = (distance < 38).ravel()[chosen.center]
        along = chosen.squares(missed)[inside].mean()
        across = np.mean((missed[1:-1] - 0.5 * (missed[2:] + missed[:-2])) ** 2 * 4 / 6)
        assert along < 0.1 * across

    def test_pixels_that_are_not_used_are_in_no_contrast(self):
        used = np.random.default_rng(0).random((40, 50)) > 0.1
        chosen = noise.contrasts(used, (20.0, 25.0))
        for index in (chosen.center, chosen.before, chosen.after):
            assert used.ravel()[index].all()


def test_normal_likelihood_is_the_sum_of_squares():
    """Deviance, score and information by the means alone, in float64."""
    rng = np.random.default_rng(0)
    shape = (50, 60)
    arrays = rng.normal(5, 3, shape), np.ones(shape), rng.uniform(1, 2, shape)
    spread = rng.uniform(0.5, 3, shape)
    arrays[1][3, 4] = 0
    data = Data(*arrays, noise=spread, off_scale=0.8)
    layout = Layout((0, 2), geometry=(0, 1), background=1, off_scale=True, normal=True)
    model = Model((Shell((2,)),), layout)
    values = Values((np.array([15.0, 2.0, 5e3, 2e3]),), off_scale=0.9)
    picture = PictureModel(data, model, values)
    vector = values.vector(model)

    def residual(vector):
        mean = picture.mean(values.with_vector(vector, model))
        return np.where(arrays[1] > 0, (data.counts - np.nan_to_num(mean)) / np.sqrt(spread), 0.0)

    found = picture.evaluate(values)
    at = residual(vector)
    assert found.deviance == pytest.approx(np.sum(at**2), rel=1e-4)
    steps = np.array([0.02, 0.02, 20, 20, 0.02, 0.02, 0.02, 0.02])
    slope = np.stack(
        [
            (residual(vector - h * e) - residual(vector + h * e)).ravel() / (2 * h)
            for h, e in zip(steps, np.eye(8), strict=True)
        ]
    )
    size = np.sqrt(np.sum(slope**2, axis=1))
    np.testing.assert_allclose(found.score / size, slope @ at.ravel() / size, atol=0.05)
    scaled = found.information / np.outer(size, size)
    np.testing.assert_allclose(scaled, slope @ slope.T / np.outer(size, size), atol=0.03)


def test_the_usual_size_of_the_sum_that_is_judged():
    """Squares less those of second differences, of white noise: 5 standard errors of 400 draws."""
    rng = np.random.default_rng(3)
    chosen = noise.contrasts(np.ones((60, 60), bool), (30.0, 30.0))
    drawn_noise = rng.standard_normal((400, 60, 60))
    sums = [np.sum(x.ravel()[chosen.center] ** 2 - chosen.squares(x)) for x in drawn_noise]
    usual = np.sqrt(noise._CROSS * len(chosen.center))
    assert np.std(sums) == pytest.approx(usual, rel=5 / np.sqrt(800) + 0.05)


def test_a_part_that_is_missed_by_far_is_a_misfit():
    """It must not count as proof that sums scatter."""
    parts = np.random.default_rng(4).standard_normal(400)
    assert judge_by_parts(parts, 20.0, 0.0, 400.0, 400).p_value > 1e-4
    parts[7] = 1e4
    assert judge_by_parts(parts, 20.0, 0.0, 400.0, 400).p_value < 1e-9
