"""Every format gives the same counts, whatever the file is called; all else is refused in one line.

What is random here has a fixed seed and only feeds exact comparisons.
"""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import tifffile
from PIL import Image

from sevi_jax.data.load import load, load_all
from sevi_jax.errors import InputError

COUNTS = np.random.default_rng(0).integers(0, 256, (12, 10))
STACK = np.random.default_rng(1).integers(0, 60000, (3, 12, 10))


def lines(counts, separator=" ", form=str):
    return "\n".join(separator.join(map(form, row)) for row in counts.tolist()) + "\n"


def comma(value):
    return f"{value:.1f}".replace(".", ",")


def saved(save, *args, **options):
    stream = io.BytesIO()
    save(stream, *args, **options)
    return stream.getvalue()


def png(array, bits, colour, palette=b""):
    """A PNG written by hand: any number of bits, any kind of colours."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b""
    for row in array:
        if bits >= 8:
            rows += b"\0" + row.astype(f">u{bits // 8}").tobytes()
        else:
            pieces = np.unpackbits(row.astype("u1")[:, None], axis=1)[:, 8 - bits :]
            rows += b"\0" + np.packbits(pieces.ravel()).tobytes()
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"PLTE", palette) if palette else b""]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def archive(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return stream.getvalue()


def hdf5(**datasets):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return stream.getvalue()


TEXT = lines(COUNTS)
SHALLOW = COUNTS % 2, COUNTS % 4, COUNTS % 16
GREY = COUNTS.astype("u1")
# what is in the file, and words of the note
TEXTS = {
    "spaces": (TEXT, "white space"),
    "aligned": (lines(COUNTS, "  ", "{:4d}".format), "white space"),
    "tabs": (lines(COUNTS, "\t"), "tabs"),
    "commas": (lines(COUNTS, ","), "commas"),
    "commas and blanks": (lines(COUNTS, ", "), "commas"),
    "semicolons": (lines(COUNTS, ";"), "semicolons"),
    "bars": (lines(COUNTS, "|"), "bars"),
    "decimal commas, semicolons": (lines(COUNTS, ";", comma), "semicolons, decimal comma"),
    "decimal commas, tabs": (lines(COUNTS, "\t", comma), "tabs, decimal comma"),
    "decimal commas, blanks": (lines(COUNTS, " ", comma), "white space, decimal comma"),
    "decimal commas, quoted": (lines(COUNTS, ",", lambda v: f'"{comma(v)}"'), "decimal comma"),
    "quoted": (lines(COUNTS, ";", '"{}"'.format), "semicolons"),
    "trailing comma": (lines(COUNTS, ",").replace("\n", ",\n"), "commas"),
    "trailing tab": (lines(COUNTS, "\t").replace("\n", "\t\n"), "tabs"),
    "exponents": (lines(COUNTS, " ", "{:.6e}".format), "white space"),
    "Fortran": (lines(COUNTS, " ", lambda v: f"{v:.3e}".replace("e", "D")), "white space"),
    "header": ("VMI, 12 x 10, 3 shots\n" + lines(COUNTS, ","), "commas, 1 header line skipped"),
    "three lines": ("a\n\nb 1 2\nc;d\n" + lines(COUNTS, ";"), "3 header lines skipped"),
    "shape": ("12 10\n" + TEXT, "1 header line skipped"),
    "names": ("\t".join("abcdefghij") + "\n" + lines(COUNTS, "\t"), "1 header line skipped"),
    "comments": ("# 1 2\n" + TEXT[:60].replace("\n", " # a row\n") + TEXT[60:], "white space"),
    "footer": (TEXT + "\nDate: 1 May\nExposure (s): 0,1\n", "2 footer lines skipped"),
    "blank lines": (TEXT.replace("\n", "\n\n"), "white space"),
    "no last line": (TEXT.rstrip(), "white space"),
    "row numbers": (
        lines(np.column_stack([np.arange(12), COUNTS]), "\t"), "first column counts the rows",
    ),
    "axes": (
        "\t".join(map(str, [0, *range(10)])) + "\n"
        + lines(np.column_stack([np.linspace(-1, 1, 12), COUNTS]), "\t"),
        "first row and first column",
    ),
    "pandas": (
        "," + ",".join(map(str, range(10))) + "\n"
        + lines(np.column_stack([np.arange(12), COUNTS]), ","),
        "first column counts the rows",
    ),
    "axes without corner": (
        "\t".join(f"{x:.3f}" for x in np.linspace(-1, 1, 10)) + "\n"
        + lines(np.column_stack([np.arange(12), COUNTS]), "\t"),
        "first column counts the rows",
    ),
    "pixel by pixel, rows first": (
        "row,column,counts\n" + "".join(f"{i},{k},{c}\n" for (i, k), c in np.ndenumerate(COUNTS)),
        "a line for every pixel (row, column, value)",
    ),
    "pixel by pixel": (
        "X\tY\tValue\n" + "".join(f"{k}\t{i}\t{c}\n" for (i, k), c in np.ndenumerate(COUNTS)),
        "a line for every pixel",
    ),
}  # fmt: skip
BYTES = {
    "byte-order mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 without mark": TEXT.encode("utf-16-le"),
    "Latin-1": "Zähler µ\n".encode("latin-1") + TEXT.encode(),
    "CRLF": TEXT.replace("\n", "\r\n").encode(),
    "CR": TEXT.replace("\n", "\r").encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zip": archive("a.dat", TEXT),
    "packed npy": gzip.compress(saved(np.save, COUNTS)),
    **{f"npy {kind}": saved(np.save, COUNTS.astype(kind)) for kind in
       ("u1", "<u2", ">u2", "<i8", ">u8", "<f4", ">f8", "f2")},
    "npy Fortran": saved(np.save, np.asfortranarray(COUNTS)),
    "npy of one": saved(np.save, COUNTS[None, :, :, None]),
    "npy RGB": saved(np.save, np.repeat(COUNTS[..., None], 3, 2)),
    "npz": saved(np.savez_compressed, image=COUNTS, x=np.arange(10), exposure=0.1),
    **{f"tiff {options}": saved(tifffile.imwrite, COUNTS.astype(kind), **options)
       for kind, options in (
        ("u1", {}), ("u2", {"compression": "lzw"}),
        ("u2", {"compression": "lzw", "predictor": True}),
        ("u2", {"compression": "zlib", "predictor": True}), ("f4", {"compression": "zstd"}),
        ("u2", {"compression": "packbits"}), ("u2", {"compression": "lzma"}), ("f8", {}),
        ("f4", {"compression": "zlib", "predictor": True}), ("u8", {"byteorder": ">"}),
        ("i4", {"tile": (16, 16)}), ("f2", {"bigtiff": True}), ("u2", {"imagej": True}),
        ("u2", {"ome": True}), ("u2", {"photometric": "miniswhite"}),
    )},
    "tiff RGB": saved(tifffile.imwrite, np.repeat(GREY[..., None], 3, 2), photometric="rgb"),
    "tiff planes": saved(tifffile.imwrite, np.repeat(GREY[None], 3, 0), photometric="rgb",
                         planarconfig="separate"),
    "png": png(COUNTS, 8, 0),
    "png 16": png(COUNTS, 16, 0),
    "png RGB": png(np.repeat(COUNTS[..., None], 3, 2), 8, 2),
    "png RGB 16": png(np.repeat(COUNTS[..., None], 3, 2), 16, 2),
    "png grey with alpha": png(np.stack([COUNTS, 0 * COUNTS + 255], 2), 8, 4),
    "png RGBA": png(np.stack([COUNTS, COUNTS, COUNTS, 0 * COUNTS + 7], 2), 8, 6),
    "png palette": png(COUNTS, 8, 3, bytes(np.repeat(np.arange(256, dtype="u1"), 3))),
    "bmp": saved(Image.fromarray(GREY).save, "BMP"),
    "hdf5": hdf5(entry__data__counts=COUNTS),
    "hdf5 with a group": hdf5(images__first=COUNTS),
    "hdf5 with more": hdf5(image=COUNTS, time=np.arange(3), note="a"),
    **{f"matlab {options}": saved(scipy.io.savemat, {"image": COUNTS, "t": 1.0}, **options)
       for options in (
        {}, {"do_compression": True}, {"format": "4"},
    )},
    "matlab sparse": saved(scipy.io.savemat, {"image": scipy.sparse.csc_matrix(COUNTS * 1.0)}),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_dialects_of_text(tmp_path, name):
    text, words = TEXTS[name]
    path = tmp_path / "a.dat"
    path.write_text(text, newline="")
    picture = load(path)
    np.testing.assert_array_equal(picture.counts, COUNTS)
    assert picture.notes[0].startswith("12 x 10, text, ")
    assert words in picture.notes[0]


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("called", ["a", "a.txt"])
def test_files_are_known_by_what_is_in_them(tmp_path, name, called):
    (tmp_path / called).write_bytes(BYTES[name])
    picture = load(str(tmp_path / called))
    assert picture.name.startswith(called)
    assert picture.counts.dtype == np.float64
    assert picture.noise is None
    assert picture.mask is None
    np.testing.assert_array_equal(picture.counts, COUNTS)


@pytest.mark.parametrize(("bits", "values"), list(zip((1, 2, 4), SHALLOW, strict=True)))
def test_few_bits(tmp_path, bits, values):
    (tmp_path / "a.png").write_bytes(png(values, bits, 0))
    np.testing.assert_array_equal(load(tmp_path / "a.png").counts, values)
    np.save(tmp_path / "a.npy", values.astype(bool))
    np.testing.assert_array_equal(load(tmp_path / "a.npy").counts, values > 0)


def test_blocks_of_text_are_a_stack(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(lines(picture) for picture in STACK))
    pictures = load_all(tmp_path / "a.txt")
    np.testing.assert_array_equal([picture.counts for picture in pictures], STACK)
    assert "3 pictures with blank lines between" in pictures[0].notes[0]


def test_bits_of_tiff(tmp_path):
    values = COUNTS % 2 > 0
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(load(tmp_path / "a.tif").counts, values)


STACKS = {
    "npy": saved(np.save, STACK.astype("u2")),
    "npz": saved(np.savez, STACK),
    "tiff": saved(tifffile.imwrite, STACK.astype("u2"), photometric="minisblack"),
    "imagej": saved(tifffile.imwrite, STACK.astype("u2"), imagej=True, compression="zlib"),
    "cut imagej": saved(tifffile.imwrite, STACK.astype("u2"), imagej=True, truncate=True),
    "hdf5": hdf5(entry__frames=STACK),
    "images": hdf5(images=STACK),
    "matlab": saved(scipy.io.savemat, {"s": np.moveaxis(STACK, 0, -1)}),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks(tmp_path, name):
    path = tmp_path / "s"
    path.write_bytes(STACKS[name])
    pictures = load_all(path)
    np.testing.assert_array_equal([picture.counts for picture in pictures], STACK)
    assert [picture.name[-3:] for picture in pictures] == ["[0]", "[1]", "[2]"]
    with pytest.raises(InputError, match=r"s: found 3 pictures \(s.*\[0\], .* load_all takes all"):
        load(path)
    np.testing.assert_array_equal(load(f"{path}[1]").counts, STACK[1])
    with pytest.raises(InputError, match="found 3 pictures, expected one of number 3"):
        load(f"{path}[3]")


def test_imagej_stack_with_fewer_pages_than_pictures(tmp_path):
    whole = saved(tifffile.imwrite, STACK.astype(">u2"), imagej=True, truncate=True)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        assert len(file.pages) == 1  # as ImageJ itself writes beyond 4 GB
    (tmp_path / "cut.tif").write_bytes(whole[: -STACK[0].size])
    with pytest.raises(InputError, match="found 2 of the 3 pictures that ImageJ says"):
        load_all(tmp_path / "cut.tif")


def test_pages_of_different_shapes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(STACK[0].astype("u2"))
        file.write(STACK[1, :5].astype("u2"))
        file.write(STACK[2, ::2, ::2].astype("u2"), subfiletype=1)  # a smaller copy
    first, second = load_all(tmp_path / "a.tif")
    np.testing.assert_array_equal(first.counts, STACK[0])
    np.testing.assert_array_equal(second.counts, STACK[1, :5])


def test_npz_gives_every_picture(tmp_path):
    np.savez(tmp_path / "a.npz", first=COUNTS.astype("f4"), stack=STACK, axis=np.arange(9))
    pictures = {picture.name: picture.counts for picture in load_all(tmp_path / "a.npz")}
    assert list(pictures) == ["a.npz:first", *(f"a.npz:stack[{i}]" for i in range(3))]
    np.testing.assert_array_equal(pictures["a.npz:stack[2]"], STACK[2])
    np.testing.assert_array_equal(load(f"{tmp_path}/a.npz:first").counts, COUNTS)
    np.testing.assert_array_equal(load(f"{tmp_path}/a.npz:stack[2]").counts, STACK[2])


def test_datasets_are_named_where_there_are_several(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(hdf5(run1__image=COUNTS, run2__image=COUNTS + 1, t=np.arange(5)))
    with pytest.raises(InputError, match=r"/run1/image 12 x 10, /run2/image 12 x 10.*a\.h5:/run1/"):
        load(path)
    picture = load(f"{path}:/run2/image")
    np.testing.assert_array_equal(picture.counts, COUNTS + 1)
    assert picture.name == "a.h5:/run2/image"
    with pytest.raises(InputError, match="table run3/image: found no such table"):
        load(f"{path}:/run3/image")
    scipy.io.savemat(tmp_path / "a.mat", {"on": COUNTS, "off": COUNTS + 1})
    with pytest.raises(InputError, match=r"on 12 x 10 int64, off 12 x 10 int64.*a\.mat:on"):
        load(tmp_path / "a.mat")
    np.testing.assert_array_equal(load(f"{tmp_path}/a.mat:off").counts, COUNTS + 1)


def test_two_names_for_one_dataset_are_one(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = COUNTS
        file["entry/instrument/data"] = file["entry/data"]
    np.testing.assert_array_equal(load(tmp_path / "a.h5").counts, COUNTS)


def test_axes_beside_a_picture_are_no_events(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = COUNTS[:10]
        file["entry/x"] = file["entry/y"] = np.arange(10.0)
    np.testing.assert_array_equal(load(tmp_path / "a.h5").counts, COUNTS[:10])


def test_matlab_of_version_7_3_counts_its_first_axis_first(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["image"] = COUNTS.T
    with (tmp_path / "a.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    np.testing.assert_array_equal(load(tmp_path / "a.mat").counts, COUNTS)


def test_chunks_across_pictures(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=STACK, chunks=(2, 5, 10), compression="gzip", shuffle=True)
        file.create_dataset("y", data=STACK + 1, chunks=(1, 5, 10), compression="gzip")
    np.testing.assert_array_equal([p.counts for p in load_all(f"{tmp_path}/a.h5:x")], STACK)
    np.testing.assert_array_equal([p.counts for p in load_all(f"{tmp_path}/a.h5:/y")], STACK + 1)


# Extras


def test_fits(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    primary = fits.PrimaryHDU(COUNTS.astype("u2"))  # stored with an offset of 32768
    table = fits.BinTableHDU.from_columns([fits.Column("A", "D", array=np.arange(3))])
    fits.HDUList([primary, table, fits.ImageHDU(STACK, name="MORE")]).writeto(tmp_path / "a.fits")
    pictures = load_all(tmp_path / "a.fits")
    np.testing.assert_array_equal([p.counts for p in pictures], [COUNTS, *STACK])
    np.testing.assert_array_equal(load(f"{tmp_path}/a.fits:MORE[1]").counts, STACK[1])
    (tmp_path / "cut.fits").write_bytes((tmp_path / "a.fits").read_bytes()[:2900])
    with pytest.raises(InputError, match=r"cut\.fits: found"):
        load(tmp_path / "cut.fits")


def sif(values, length=None):
    """A SIF of Andor's version 65538, as far as sif_parser describes it."""
    height, width = values.shape[1:]
    words = (
        "65538 0 0 1 1254330082 -70 " + " " * 10 + "0 0.1 0.2 0.3 5 \0 0.4 1e-6 0 1 2.0 0 0 1e-9 "
    )
    words += "0 " * 16 + "300 0 0\nDU970\n" + f"{width} {height} 5\na.sif \n65538 4\ntext\n"
    words += "65538 " + " " * 8 + "0 0\n65539 0 0 0 0\n0 1 0 0\n0 1 0 0\n0\n422\n13\n13\n"
    words += "5\npixel6\ncounts5\npixel"
    words += f"65541 1 {height} {width} 1 {len(values)} 1 {values.size} {height * width}\n"
    words += f"65538 1 {height} {width} 1 1 1\n" + "0\n" * len(values)
    head = "Andor Technology Multi-Channel File\n65538 1\n" + words
    return head.encode() + values.astype("<f4").tobytes()[:length]


def test_sif(tmp_path):
    pytest.importorskip("sif_parser")
    (tmp_path / "a.sif").write_bytes(sif(STACK + 0.5))
    np.testing.assert_array_equal([p.counts for p in load_all(tmp_path / "a.sif")], STACK + 0.5)
    for name, content in (("data", sif(STACK, 99)), ("head", sif(STACK)[:300])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: found unreadable data"):
            load_all(tmp_path / name)


@pytest.mark.parametrize(
    ("module", "content", "message"),
    [
        (
            "astropy",
            b"SIMPLE  =                    T",
            r"astropy is not installed.*sevi_jax\[fits\]",
        ),
        ("sif_parser", sif(STACK), r"sif_parser is not installed.*sevi_jax\[sif\]"),
    ],
)
def test_extras_say_what_to_install(tmp_path, monkeypatch, module, content, message):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setitem(__import__("sys").modules, "astropy.io.fits", None)
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a")


# What is refused

RGB = np.random.default_rng(2).integers(0, 256, (12, 10, 3)).astype("u1")
BAD = {
    "infinite.npy": (saved(np.save, np.full((9, 9), -np.inf)), "found -inf in row 0, column 0"),
    "line.npy": (saved(np.save, np.ones(9)), "found an array of shape (9,)"),
    "four.npy": (saved(np.save, np.ones((2, 2, 3, 3))), "shape (2, 2, 3, 3)"),
    "complex.npy": (saved(np.save, 1j * COUNTS), "type complex128"),
    "objects.npy": (saved(np.save, np.array([[{}]]), allow_pickle=True), "Object arrays cannot"),
    "none.npz": (saved(np.savez), "found no arrays"),
    "axes.npz": (saved(np.savez, a=np.ones(3)), "found an array of shape (3,)"),
    "rgb.npy": (saved(np.save, RGB), "found false colours (red, green and blue differ)"),
    "rgb.png": (png(RGB, 8, 2), "found false colours"),
    "palette.png": (png(COUNTS, 8, 3, RGB.tobytes() + bytes(408)), "found false colours"),
    "alpha.png": (png(np.stack([COUNTS, COUNTS], 2), 8, 4), "transparent in places"),
    "rgb.tif": (saved(tifffile.imwrite, RGB, photometric="rgb"), "page 0: found false colours"),
    "palette.tif": (
        saved(tifffile.imwrite, GREY, photometric="palette",
              colormap=np.random.default_rng(3).integers(0, 65536, (3, 256)).astype("u2")),
        "page 0: found false colours (a palette)",
    ),
    "picture.jpg": (saved(Image.fromarray(GREY).save, "JPEG"), "found a JPEG, whose compression"),
    "book.xlsx": (archive("[Content_Types].xml", "a"), "a workbook of Excel, expected text"),
    "unknown": (bytes(range(256)), "found an unknown kind of file (it begins with"),
    "empty": (b"", "found an empty file"),
    "words.txt": (b"a b\nc d\n", "found 'a b', expected rows of numbers"),
    "ragged.txt": (b"1 2\n3 4\n5\n6 7\n", ", line 3: found 1 numbers, expected 2 numbers (white"),
    "cut.txt": ((TEXT + "1 2 3\n").encode(), ", line 13: found 3 numbers (white space), expected"),
    "word.txt": (TEXT.encode()[:200] + b"x" + TEXT.encode()[200:], "expected 10 numbers"),
    "empty field.csv": (b"1,2,3\n4,,6\n7,8,9\n", ", line 2: found '', expected 3 numbers (commas)"),
    "point and comma.csv": (b"1.234,5;1,0\n2,0;3,0\n", ", line 1: found '1.234,5;1,0'"),
    "pairs.csv": (lines(COUNTS, ",", comma).encode(), "0 in every second column, which is ambig"),
    "gaps.txt": (
        lines(COUNTS, "\t", lambda v: str(v) if v % 3 else "").encode(),
        ", row 1: found an empty field between tabs, expected a number (NaN marks",
    ),
    "thousands.csv": (
        b"1,234;999;1,000\n1,000;2,000;500\n1;2;3\n", "found 1,234, which is ambiguous",
    ),
    "table.txt": (lines(np.ones((99, 4))).encode(), "found 99 lines of 4 numbers, expected a pict"),
    "row.txt": (b"1 2 3\n", "1 x 3 pixels"),
    "comments.txt": (b"# nothing\n", "found no numbers"),
    "cut.txt.gz": (gzip.compress(TEXT.encode())[:40], "found unreadable data"),
    "no picture.h5": (hdf5(a=np.arange(3)), "found tables a, expected a picture"),
    "negative.tif": (saved(tifffile.imwrite, COUNTS.astype("c8")), "values of type complex64"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        load_all(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)
    assert message in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"a\.npy: found no such file"):
        load(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", COUNTS)
    with pytest.raises(InputError, match=r"a.npy:/x: found '/x' behind the name"):
        load(f"{tmp_path}/a.npy:/x")
