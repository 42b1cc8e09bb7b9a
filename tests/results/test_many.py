"""Many pictures: the same fits as one by one, progress, and bad pictures among good ones."""

import numpy as np
import pytest

from sevi_jax.errors import InputError
from sevi_jax.results.fit import fit
from sevi_jax.results.many import BadPictures, fit_many
from sevi_jax.synthesis.spectrometer import simulate


def draw(seed):
    shell = {"radius": 18.0 + 0.2 * seed, "sigma": 1.5, "electrons": 4000, "beta": {2: 0.5}}
    return simulate([shell], (50, 50), seed=seed)


def test_fits_are_those_of_single_pictures_in_their_order(tmp_path):
    pictures = [draw(seed) for seed in range(4)]
    np.save(tmp_path / "a.npy", pictures[2].counts)
    seen = []
    given = [pictures[0], pictures[1].counts, tmp_path / "a.npy", pictures[3]]
    found = fit_many(given, progress=lambda *x: seen.append(x), shells=1, orders=(2,))
    assert seen == [(k, 4) for k in range(1, 5)]
    for many, picture in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(many.values, fit(picture.counts).values)
    assert fit_many([]) == []


def test_a_bad_picture_does_not_lose_the_others(tmp_path):
    seen = []
    given = [np.zeros((50, 50)), draw(1), tmp_path / "none.npy", np.ones(3), draw(2)]
    with pytest.raises(BadPictures, match=r"3 of 5 pictures .* number 0: a picture without counts"):
        fit_many(given, progress=lambda done, of: seen.append(done))
    assert seen == [1, 2, 3, 4, 5]
    with pytest.raises(BadPictures) as error:
        fit_many(given)
    assert [number for number, x in enumerate(error.value.fits) if x is None] == [0, 2, 3]
    assert list(error.value.reasons) == [0, 2, 3]
    assert "none.npy" in error.value.reasons[2]
    last = error.value.fits[4]
    assert last is not None
    assert last.converged


@pytest.mark.parametrize(
    ("options", "message"), [({"shells": 0}, "shells=0"), ({"shell": 1}, "shell"),
                             ({"polarisation": "up"}, "vertical")]
)  # fmt: skip
def test_wrong_options_are_said_before_any_picture(options, message):
    with pytest.raises(InputError, match=message) as error:
        fit_many([draw(1)], progress=lambda *_: pytest.fail("a picture was fitted"), **options)
    assert not isinstance(error.value, BadPictures)
