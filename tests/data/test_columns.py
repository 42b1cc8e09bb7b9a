"""Positions of electrons, of this program's files and of other cameras, are counted in pixels."""

import h5py
import numpy as np
import pytest
from hdf5_files import draw, expected_pictures, second_kind, table, write

from sevi_jax.data.load import load, load_all, parse_gate
from sevi_jax.errors import InputError

RNG = np.random.default_rng(0)
N = 2000
X, Y = RNG.uniform(0, 200, N), RNG.uniform(0, 150, N)
X[0], Y[0] = 199.5, 149.5
TIME = RNG.normal(1.2e-6, 1e-7, N)
EXPECTED = np.histogram2d(Y, X, bins=(np.arange(151), np.arange(201)))[0]
OPEN = (TIME >= 1.1e-6) & (TIME <= 1.3e-6)
GATED = np.histogram2d(Y[OPEN], X[OPEN], bins=(np.arange(151), np.arange(201)))[0]


def write_groups(path, **other):
    with h5py.File(path, "w") as file:
        group = file.create_group("centroided")
        columns = {"trigger nr": np.arange(N), "x": X, "y": Y, "tof": TIME, "tot max": np.ones(N)}
        for number, (name, values) in enumerate(columns.items()):
            # chunks of all lengths, so that blocks of columns do not end together
            group.create_dataset(name, data=values, chunks=(97 + number,), compression="gzip")
        group["tof"].attrs["unit"] = "s"
        for name, values in other.items():
            file[name] = values
    return path


def test_columns_in_a_group_with_and_without_a_gate(tmp_path, monkeypatch):
    from sevi_jax.data.readers import columns

    monkeypatch.setattr(columns, "BLOCK_ROWS", 300)
    path = write_groups(tmp_path / "a.h5", triggers=np.arange(5.0))
    picture = load(path)
    np.testing.assert_array_equal(picture.counts, EXPECTED)
    assert "2000 events of columns y (downwards) and x" in picture.notes[0]
    assert "pixels of the sensor, pixels of 1" in picture.notes[0]
    gated = load(f"{path}:/centroided", gate="tof:1.1e-6,1.3e-6")
    np.testing.assert_array_equal(gated.counts, GATED)
    assert f"{N - OPEN.sum()} others are outside tof 1.1e-06 to 1.3e-06" in gated.notes[0]
    assert gated.name == "a.h5:/centroided"
    fine = load(path, pixel=0.5, gate={"tof": (1.1e-6, 1.3e-6), "tot max": (0, 2)})
    assert fine.shape == (300, 400)
    np.testing.assert_array_equal(fine.counts.reshape(150, 2, 200, 2).sum((1, 3)), GATED)


def test_choices_in_a_file_of_events_are_listed(tmp_path):
    path = write_groups(tmp_path / "a.h5", image=np.ones((9, 9)))
    with pytest.raises(InputError, match=r"/image 9 x 9, /centroided \(columns of events\)"):
        load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "tob:1,2"}, r"found columns .*tof.*, expected one called tob"),
        ({"gate": "tof:5,6"}, "found no event of 2000 to count"),
        ({"gate": "tof:3"}, r"gate=tof:3: expected COLUMN:LOW,HIGH"),
        ({"columns": ("x", "w")}, "expected one called w"),
        ({"pixel": 0.0}, r"pixel=0\.0: expected a width above 0"),
        ({"pixel": 1e-4}, "expected at most 16384 a side: give a larger pixel"),
    ],
)
def test_what_cannot_be_counted_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load(write_groups(tmp_path / "a.h5"), **options)


def test_tables_of_events(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["hits"] = table(X=X, Y=Y, tof=TIME)
    np.testing.assert_array_equal(load(tmp_path / "a.h5", gate="tof:1.1e-6,1.3e-6").counts, GATED)
    np.save(tmp_path / "a.npy", table(time=TIME, x=X, y=Y))
    np.testing.assert_array_equal(load(tmp_path / "a.npy", gate="time:1.1e-6,1.3e-6").counts, GATED)


def test_columns_in_an_archive(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, tof=TIME, shots=np.arange(3))
    np.testing.assert_array_equal(load(tmp_path / "a.npz", gate="tof:1.1e-6,1.3e-6").counts, GATED)


@pytest.mark.parametrize(
    ("header", "columns", "options"),
    [
        ("x,y,tof", (X, Y, TIME), {}),
        ("shot;Y [px];X [px];tof", (TIME, Y, X, TIME), {}),
        ("", (X, Y), {}),
        ("", (TIME, Y, X, TIME), {"columns": ("2", "1")}),
        ("", (Y, X, TIME), {"columns": ("1", "0")}),
    ],
)
def test_events_in_text(tmp_path, header, columns, options):
    separator = ";" if ";" in header else ","
    body = "\n".join(separator.join(f"{v:.17g}" for v in row) for row in zip(*columns, strict=True))
    (tmp_path / "a.csv").write_text(f"{header}\n{body}\n")
    np.testing.assert_array_equal(load(tmp_path / "a.csv", **options).counts, EXPECTED)


def test_addresses_of_pixels_are_whole_numbers(tmp_path):
    x, y = np.floor(X).astype("u2"), np.floor(Y).astype("u2")
    np.save(tmp_path / "a.npy", table(x=x, y=y))
    np.testing.assert_array_equal(load(tmp_path / "a.npy").counts, EXPECTED)


def test_half_widths_and_lengths(tmp_path):
    place = RNG.uniform(-1, 1, (500, 2))
    np.save(tmp_path / "a.npy", place)
    picture = load(tmp_path / "a.npy")
    edges = np.linspace(-1, 1, 513)
    expected = np.histogram2d(place[:, 1], place[:, 0], bins=(edges, edges))[0]
    np.testing.assert_array_equal(picture.counts, expected)
    np.savetxt(tmp_path / "a.txt", 38.2 * place, header="x [mm] y [mm]")
    picture = load(tmp_path / "a.txt")
    assert picture.counts.sum() == 500
    assert "pixels of 0.1 mm" in picture.notes[0]
    assert max(picture.shape) == pytest.approx(764, abs=3)


def test_own_event_files_have_z_downwards_and_their_origin_in_the_middle(tmp_path):
    data = draw()
    path = write(tmp_path / "train10.h5", second_kind(data))
    expected, _, _ = expected_pictures(data, 32)
    pictures = load_all(path, size=32)
    for number, (picture, counts) in enumerate(zip(pictures, expected, strict=True)):
        np.testing.assert_array_equal(picture.counts, counts.T)
        assert picture.origin == (16.0, 16.0)
        assert picture.polarisation == 0.0
        assert picture.name == f"train10.h5[{data['ids'][number]}]"
        assert picture.truth.radius.tolist() == [data["R"][number]]
        assert "counted about the middle; left out: " in picture.notes[0]
    with h5py.File(path, "r+") as file:
        file["DetectedElectrons"].attrs["blur"] = 0.01
    assert load(f"{path}[1]", size=32).blur == pytest.approx(0.16)


def test_own_pair_and_frames(tmp_path):
    path = tmp_path / "train0.h5"
    truth = table(SphereId=np.array([0, 1], "u1"), R=[0.6, 0.4], sigma=[0.01] * 2,
                  beta=np.zeros((2, 3)))  # fmt: skip
    write(path, {"Truth": truth, "DetectedElectrons": table(x=[0.1, 0.2], z=[-0.5, -0.5])})
    picture = load(path)
    assert np.argwhere(picture.counts).tolist() == [[128, 281], [128, 307]]
    assert picture.truth.radius.tolist() == [0.4, 0.6]
    write(path, {"FinalImage": table(ImageId=np.arange(2), Image=np.zeros((2, 64, 64), "u1"))})
    with pytest.raises(InputError, match=r"camera frames without positions.*sevi_jax\.detect"):
        load(path)


def test_gates_as_text():
    assert parse_gate("tot max: 3,5.5") == ("tot max", (3.0, 5.5))
    for text in ("tof", "tof:1", "tof:2,1", ":1,2", "tof:a,b"):
        with pytest.raises(InputError, match="expected COLUMN:LOW,HIGH"):
            parse_gate(text)


@pytest.mark.parametrize("options", [{"gate": "tof:1,2"}, {"pixel": 0.5}, {"columns": ("x", "y")}])
def test_options_of_columns_are_refused_for_pictures(tmp_path, options):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((20, 20)))
    with pytest.raises(InputError, match=f"a.npy: {next(iter(options))} is for columns"):
        load(path, **options)
