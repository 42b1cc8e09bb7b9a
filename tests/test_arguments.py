"""Mistakes in Python calls are `InputError`s of one line that names the argument."""

import numpy as np
import pytest

import sevi_jax as sj
from sevi_jax.errors import InputError
from sevi_jax.estimation import fitting
from sevi_jax.results.calibration import Calibration
from sevi_jax.results.energies import shell_energies
from sevi_jax.results.known_energies import parse_photon_energy
from sevi_jax.results.spectrum import Spectrum, spectrum_of

COUNTS = np.random.default_rng(1).poisson(3.0, (16, 16))
SHELL = {"radius": 5.0, "sigma": 1.0, "electrons": 100.0, "beta": {2: 1.2}}
NAN = float("nan")


def refused(part, call):
    with pytest.raises(InputError, match=part) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.fixture(autouse=True)
def no_search(monkeypatch):
    """A call that is not refused fails at once."""

    def reached(*_, **__):
        raise AssertionError("the mistake was not seen")

    monkeypatch.setattr(fitting, "find_start", reached)
    monkeypatch.setattr(fitting, "start_beside", reached)


@pytest.mark.parametrize(
    "picture",
    ["a.tif", 5, None, COUNTS[0], COUNTS[:0], COUNTS[None], COUNTS * 1j, COUNTS.astype(str),
     (x for x in COUNTS)],
)  # fmt: skip
@pytest.mark.parametrize("call", [sj.fit, sj.invert])
def test_a_picture_that_is_none_is_refused(call, picture):
    refused("picture.*expected", lambda: call(picture))


@pytest.mark.parametrize("side", [2, 9])
@pytest.mark.parametrize("call", [sj.fit, sj.invert])
def test_a_picture_without_room_for_a_ring_is_refused(call, side):
    refused("at least 10 x 10", lambda: call(COUNTS[:side, :side]))


def test_pixels_that_a_masked_array_masks_are_not_used():
    mask = COUNTS > 4
    found = fitting_picture(np.ma.masked_array(COUNTS, mask))
    assert (found.used == ~mask).all()


def fitting_picture(values):
    from sevi_jax.results.fit import known_picture

    return known_picture(values, None)


MISTAKES = [
    ("shells", 1.5), ("shells", True), ("shells", "1"), ("shells", NAN),
    ("orders", 2), ("orders", "2,4"), ("orders", "2"), ("orders", (2.5,)), ("orders", None),
    ("orders", ((2,), 4)), ("free", "origin"), ("free", None), ("free", 1),
    ("range", (30, 10)), ("range", (10, 10)), ("range", (10,)), ("range", 10), ("range", "1,3"),
    ("range", (NAN, 3)), ("range", (None, 3)), ("polarisation", NAN), ("polarisation", "inf"),
    ("polarisation", (1, 2)), ("positive", "no"), ("continuum", "no"), ("start", 5), ("prior", 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), MISTAKES)
def test_arguments_of_fit(name, value):
    refused(name, lambda: sj.fit(COUNTS, **{name: value}))


@pytest.mark.parametrize("orders", [2, "2", (2.5,), ((2,),), None])
def test_orders_of_invert(orders):
    refused("orders", lambda: sj.invert(COUNTS, orders=orders))


def test_what_numbers_and_lists_may_be():
    given = {"shells": np.int64(2), "orders": [np.array([2]), range(2, 5, 2)]}
    rest = {"shape": "normal", "free": ["origin", "origin"], "background": "none"}
    found = fitting.request_of(**given, **rest, range=(3, np.inf), positive=np.True_)  # pyright: ignore
    assert found.orders == ((2,), (2, 4))
    assert found.free == ("origin",), "what is named twice is one parameter"
    assert found.range == (3.0, np.inf)
    given = {"shells": 2.0, "orders": (2.0,)}
    assert fitting.request_of(  # pyright: ignore
        **given, **rest, range=None, positive=False
    ).orders == ((2,), (2,))


@pytest.mark.parametrize(
    ("name", "value"),
    [("polarisation", "x"), ("polarisation", NAN), ("polarisation", None), ("origin", 32),
     ("origin", (1,)), ("origin", "3,2"), ("origin", (NAN, 2)), ("gain", "auto"), ("gain", 0),
     ("off_scale", -1), ("blur", -1), ("blur", NAN), ("blur", None), ("mask", COUNTS.astype(str))],
)  # fmt: skip
def test_fields_of_a_picture(name, value):
    refused(name, lambda: sj.Picture(COUNTS, **{name: value}))


def test_a_picture_knows_polarisations_by_name_and_a_mask_by_nan():
    mask = np.ones(COUNTS.shape)
    mask[3, 4] = NAN
    picture = sj.Picture(COUNTS, mask=mask, polarisation="horizontal")  # pyright: ignore
    assert picture.polarisation == 90.0
    assert np.argwhere(~picture.used).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("radius", "20"), ("sigma", None), ("electrons", [20]), ("electrons", 1e13), ("beta", [1.2]),
     ("beta", {2.5: 1.0}), ("beta", {"2": 1.0}), ("betas", {2: 1.0})],
)  # fmt: skip
def test_fields_of_a_simulated_shell(name, value):
    refused(name[:4], lambda: sj.simulate([{**SHELL, name: value}]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", 64), ("shape", (64.5, 64)), ("shape", None), ("seed", -1), ("seed", "a"),
     ("origin", (1,)), ("angle", NAN), ("gain", "auto"), ("blur", "x"), ("ellipse", 1), ("foo", 1)],
)  # fmt: skip
def test_conditions_of_a_simulation(name, value):
    refused(name, lambda: sj.simulate([SHELL], **{name: value}))


def test_shells_of_a_simulation_are_a_list():
    refused("shells", lambda: sj.simulate(SHELL))  # pyright: ignore


CALIBRATION = Calibration(np.array([1e-3]), (), np.zeros((1, 0)), 0.0)


@pytest.mark.parametrize("wrong", [None, "cal.json", ["cal.json"]])
def test_what_is_no_calibration(wrong):
    refused("calibration", lambda: shell_energies(None, wrong))
    refused("calibration", lambda: spectrum_of(np.ones(1), np.ones(1), np.ones(1), wrong))


def test_a_photon_has_energy():
    for energy in (0, -1, (-2.0, 0.1)):
        refused("photon_energy", lambda energy=energy: shell_energies(None, CALIBRATION, energy))
    refused("photon_energy", lambda: parse_photon_energy("-2.7"))


@pytest.mark.parametrize("name", ["picture.npy", "picture.txt", "folder", 5, None])
def test_no_file_of_another_kind_is_replaced(name, tmp_path):
    path = name
    if isinstance(name, str):
        path = tmp_path / name
        path.write_bytes(b"mine")
    one = np.ones(1)
    for save in (CALIBRATION.save, Spectrum(one, one, one, one, "eV", "kinetic", None).save):
        refused("expected.* \\.(json|csv)", lambda save=save: save(path))
    if isinstance(name, str):
        assert path.read_bytes() == b"mine"


def test_an_offset_that_leaves_no_counts(tmp_path):
    np.save(tmp_path / "a.npy", COUNTS)
    for offset in (1e9, NAN, float(COUNTS.max())):
        refused("offset", lambda offset=offset: sj.load(tmp_path / "a.npy", offset=offset))
