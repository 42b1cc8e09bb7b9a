"""Builders of malformed files: one function per file, and what its error line must name.

`EVENTS`, `IMAGES` and `ANSWERS` hold, by file name, (build, words of the message). What is promised
of all of them stands in test_malformed.py.
"""

import bz2
import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
import scipy.io
import tifffile
from hdf5_files import draw, second_kind, table, write
from PIL import Image

MIB = 1 << 20
T, G, D = "DistributionParameters", "GeneratedElectrons", "DetectedElectrons"
COUNTS = np.random.default_rng(0).integers(0, 256, (16, 16))
GREY = COUNTS.astype(np.uint8)
ROW = np.dtype([("ElectronId", "<i4"), ("x", "<f8"), ("z", "<f8")])


def zeros(size, head=b"\x78\x9c"):
    """A zlib stream (or, with another head, a raw one) of `size` MiB of zeros, without making them.

    A block after a full flush depends on nothing before it, so it can stand there many times.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(b"")
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", size * MIB % 65521, 1)
    return head + block * size + b"\x03\x00" + (checksum if head == b"\x78\x9c" else b"")


def events(change=None, **options):
    """A file of the second kind; `change` gets its tables by name."""

    def build(path):
        tables = second_kind(draw())
        if change:
            change(tables)
        write(path, tables, **options)

    return build


def electrons(rows, **options):
    """A file with the table DetectedElectrons alone."""

    def build(path):
        write(path, {D: rows() if callable(rows) else rows}, **options)

    return build


def hdf5(change):
    """A file of the second kind, without DetectedElectrons, that `change` completes."""

    def build(path):
        tables = second_kind(draw())
        rows = tables.pop(D)
        write(path, tables)
        with h5py.File(path, "r+") as file:
            change(file, rows, path)

    return build


def damaged(change, **options):
    """The bytes of a file of the second kind, changed."""

    def build(path):
        events(**options)(path)
        path.write_bytes(change(path.read_bytes()))

    return build


def spoil(signature, length=4, last=False):
    """Replaces a signature inside the file, and so what HDF5 must find."""

    def change(content):
        place = (content.rindex if last else content.index)(signature)
        return content[:place] + b"?" * length + content[place + length :]

    return change


def one_chunk(raw, rows=1000, row=ROW, mask=0, **options):
    """DetectedElectrons as one chunk with these bytes stored."""

    def build(path):
        with h5py.File(path, "w") as file:
            data = file.create_dataset(D, (rows,), row, chunks=(rows,), **options)
            data.id.write_direct_chunk((0,), raw() if callable(raw) else raw, mask)

    return build


def unwritten(shape=(10**12,), **options):
    """DetectedElectrons of 20 terabytes, none of them there."""

    def build(path):
        with h5py.File(path, "w") as file:
            file.create_dataset(D, shape, ROW, **options)

    return build


def filtered(*filters):
    """DetectedElectrons with these filters, given by number, and a chunk that is not theirs."""

    def build(path):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1000,))
        for number in filters:
            properties.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (6,))
        with h5py.File(path, "w") as file:
            space = h5py.h5s.create_simple((1000,))
            kind = h5py.h5t.py_create(ROW, logical=True)
            data = h5py.h5d.create(file.id, D.encode(), kind, space, properties)
            data.write_direct_chunk((0,), zlib.compress(bytes(1000 * ROW.itemsize)))

    return build


def partly_written(path):
    with h5py.File(path, "w") as file:
        data = file.create_dataset(D, (10**12,), ROW, chunks=(1000,))
        data[:1000] = np.zeros(1000, ROW)


def bomb(path, rows=10**8, name=D, row=ROW):
    """Two gigabytes of zeros in two megabytes."""
    rows_of_chunk = MIB // row.itemsize
    packed = zlib.compress(bytes(rows_of_chunk * row.itemsize), 9)
    with h5py.File(path, "w") as file:
        chunks = -(-rows // rows_of_chunk)
        data = file.create_dataset(
            name, (chunks * rows_of_chunk,), row, chunks=(rows_of_chunk,), compression="gzip"
        )
        for number in range(chunks):
            data.id.write_direct_chunk((number * rows_of_chunk,), packed)


def link_out(file, rows, path):
    """A whole table in another file: reading it would not be this file."""
    write(path.with_suffix(".other"), {D: rows})
    file[D] = h5py.ExternalLink(path.with_suffix(".other").name, D)


def link_out_by_name(file, rows, path):
    write(path.with_suffix(".other"), {D: rows})
    file["other"] = h5py.ExternalLink(path.with_suffix(".other").name, "/")
    file[D] = h5py.SoftLink(f"/other/{D}")


def link_circle(file, rows, path):
    file[D], file["a"] = h5py.SoftLink("/a"), h5py.SoftLink(f"/{D}")


def virtual(file, rows, path):
    write(path.with_suffix(".other"), {D: rows})
    layout = h5py.VirtualLayout(rows.shape, rows.dtype)
    layout[:] = h5py.VirtualSource(str(path.with_suffix(".other")), D, rows.shape)
    file.create_virtual_dataset(D, layout)


def external(file, rows, path):
    path.with_suffix(".other").write_bytes(rows.tobytes())
    where = [(str(path.with_suffix(".other")), 0, rows.nbytes)]
    file.create_dataset(D, rows.shape, rows.dtype, external=where)


def group_for_generated(file, rows, path):
    del file[G]
    file.create_group(G)
    file[D] = rows


def text_field(file, rows, path):
    kind = np.dtype([("ElectronId", "i4"), ("x", h5py.string_dtype()), ("z", "f8")])
    data = file.create_dataset(D, (2,), kind)
    data[:] = np.array([(1, "a", 0.0), (2, "b", 0.0)], kind)


def strange(of_x):
    """DetectedElectrons whose field x is of this type of HDF5's."""

    def build(path):
        size = of_x.get_size() + 16
        kind = h5py.h5t.create(h5py.h5t.COMPOUND, size)
        kind.insert(b"x", 0, of_x)
        kind.insert(b"z", size - 16, h5py.h5t.NATIVE_INT32)
        with h5py.File(path, "w") as file:
            data = h5py.h5d.create(file.id, D.encode(), kind, h5py.h5s.create_simple((3,)))
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(3, f"V{size}"), kind)

    return build


def odd_float():
    """A float of 8 bytes with so long an exponent that h5py takes 16 for it."""
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_fields(63, 48, 15, 0, 48)
    kind.set_ebias(2**14 - 1)
    return kind


def claimed_chunk(path):
    """A chunk of 30 bytes that says it has four billion."""
    raw = zlib.compress(bytes(20000))
    one_chunk(raw, compression="gzip")(path)
    said, more = (struct.pack("<IIQ", size, 0, 0) for size in (len(raw), 2**32 - 9))
    path.write_bytes(path.read_bytes().replace(said, more))


def put(name, column, row, value):
    def change(tables):
        tables[name][column][row] = value

    return change


def having(name, **columns):
    """Replaces columns of a table: values, or functions of the table."""

    def change(tables):
        rows = tables[name]
        new = {key: value(rows) if callable(value) else value for key, value in columns.items()}
        tables[name] = table(**{**{key: rows[key] for key in rows.dtype.names}, **new})

    return change


def all_outside(tables):
    tables[D]["x"] = 3.0


def twice_detected(apart):
    def change(tables):
        ids = tables[D]["ElectronId"]
        ids[apart] = ids[0]

    return change


def pair(positions=((0.0, 0.0),), **truth):
    """A file of the first kind; `truth` replaces columns."""

    def build(path):
        columns = {
            "SphereId": np.array([0, 1], "u1"),
            "R": np.array([0.4, 0.6]),
            "sigma_R": np.array([0.007, 0.007]),
            "beta": np.zeros((2, 12)),
        } | truth
        place = np.array(positions)
        write(path, {"Truth": table(**columns), D: table(x=place[:, 0], z=place[:, 1])})

    return build


def bare(name, *shape, dtype="f8", **options):
    """A file with one dataset, which is not written."""

    def build(path):
        with h5py.File(path, "w") as file:
            file.create_dataset(name, shape, dtype, **options)

    return build


def names_of_all_kinds(path):
    with h5py.File(path, "w") as file:
        file["red \x1b[31m\n text"] = 1
        for number in range(3000):
            file.create_group(f"group{number}")


def cut_utf8_name(path):
    with h5py.File(path, "w") as file:
        file[b"\xff\xfe table"] = 1


def long_parameters(path):
    """Truth of 100 MB, which would be read whole."""
    row = np.dtype([("SphereId", "u1"), ("R", "f8"), ("sigma", "f8"), ("beta", "f8", (12,))])
    bomb(path, MIB, "Truth", row)


WIDE_ROW = np.dtype([("x", "f8"), ("z", "f8"), ("padding", "u1", (17 * MIB,))])
LONG_CHUNK = 40 * MIB // ROW.itemsize
FILE = "expected a complete HDF5 file"
WHOLE = "expected a complete table"
EVENTS = {
    "signature.h5": (damaged(lambda content: content[:8]), FILE),
    "superblock.h5": (damaged(lambda content: content[:60]), FILE),
    "last_byte.h5": (damaged(lambda content: content[:-1]), FILE),
    "versions.h5": (damaged(lambda content: content[:8] + b"\xff" * 8 + content[16:]), FILE),
    "addresses.h5": (damaged(lambda content: content[:24] + b"\xee" * 72 + content[96:]), FILE),
    "root_heap.h5": (damaged(spoil(b"HEAP")), "unreadable data"),
    "root_tree.h5": (damaged(spoil(b"TREE")), "unreadable data"),
    "root_names.h5": (damaged(spoil(b"SNOD")), "unreadable data"),
    "chunk_tree.h5": (damaged(spoil(b"TREE", last=True), chunks=(100,)), "unreadable data"),
    "link_out.h5": (hdf5(link_out), f"table {D}: found a link to another file"),
    "link_name.h5": (hdf5(link_out_by_name), f"table {D}: found a link to /other"),
    "link_circle.h5": (hdf5(link_circle), f"table {D}: found a link to /a"),
    "link_dangling.h5": (
        hdf5(lambda file, rows, path: file.__setitem__(D, h5py.SoftLink("/none/here"))),
        f"table {D}: found a link to /none/here",
    ),
    "virtual.h5": (hdf5(virtual), f"table {D}: found a virtual table"),
    "external.h5": (hdf5(external), f"table {D}: found values in another file"),
    "terabytes.h5": (unwritten(), f"table {D}: found 0 of 20000000000000 bytes"),
    "terabytes_chunked.h5": (unwritten(chunks=(1000,)), f"table {D}: found 0 of 1000000000"),
    "terabytes_gzip.h5": (
        unwritten(chunks=(1000,), compression="gzip", maxshape=(None,)),
        f"table {D}: found 0 of 1000000000 chunks",
    ),
    "terabytes_begun.h5": (partly_written, f"table {D}: found 1 of 1000000000 chunks"),
    "all_rows_there_are.h5": (unwritten((2**63 - 1,), chunks=(2**20,)), f"table {D}: found 0 of"),
    "bomb.h5": (bomb, f"table {D}: found 100"),
    "bomb_in_chunk.h5": (one_chunk(lambda: zeros(3000), compression="gzip"), f"table {D}: "),
    "short_chunk.h5": (one_chunk(zlib.compress(bytes(9999)), compression="gzip"), WHOLE),
    "cut_chunk.h5": (one_chunk(zlib.compress(bytes(20000))[:20], compression="gzip"), WHOLE),
    "claimed_chunk.h5": (claimed_chunk, f"table {D}: found a chunk of 4294967287 bytes"),
    "raw_chunk.h5": (one_chunk(b"raw" * 99, compression="gzip", mask=1), WHOLE),
    "unfiltered_chunk.h5": (one_chunk(bytes(9999)), "a chunk of 9999 bytes"),
    "shuffled_chunk.h5": (one_chunk(bytes(9999), shuffle=True), "a chunk of 9999 bytes"),
    "lzf_chunk.h5": (one_chunk(b"\xff" * 999, compression="lzf"), WHOLE),
    "checksum.h5": (one_chunk(bytes(20004)[:-1] + b"x", fletcher32=True), WHOLE),
    "no_filter.h5": (filtered(32099), f"table {D}: found compression by filter 32099"),
    "filters.h5": (filtered(1, 32000), "expected gzip as the last"),
    "long_chunk.h5": (
        one_chunk(b"x", LONG_CHUNK, compression="gzip"),
        "expected at most 33554432",
    ),
    "long_row.h5": (
        one_chunk(b"x", 1, WIDE_ROW, compression="gzip"),
        f"table {D}: found rows of 17825808 bytes",
    ),
    "long_truth.h5": (long_parameters, "table Truth: found 10"),
    "group_generated.h5": (hdf5(group_for_generated), f"table {G}: found a group"),
    "group_truth.h5": (
        lambda path: h5py.File(path, "w").create_group(T).file.close(),
        f"table {T}: found a group",
    ),
    "named_type.h5": (
        hdf5(lambda file, rows, path: file.__setitem__(D, rows.dtype)),
        f"table {D}: found a named type",
    ),
    "no_space.h5": (
        hdf5(lambda file, rows, path: file.__setitem__(D, h5py.Empty(ROW))),
        f"table {D}: found shape None",
    ),
    "scalar.h5": (electrons(np.zeros((), ROW)), f"table {D}: found shape ()"),
    "rank_three.h5": (electrons(np.zeros((2, 3, 4), ROW)), f"table {D}: found shape (2, 3, 4)"),
    "columns.h5": (electrons(np.zeros((9, 3))), f"table {D}: found plain float64"),
    "x_logical.h5": (events(having(D, x=lambda rows: rows["x"] > 0)), "field x: found bool"),
    "x_complex.h5": (events(having(D, x=lambda rows: rows["x"] * 1j)), "field x: found complex"),
    "x_text.h5": (hdf5(text_field), "field x: found object"),
    "x_nested.h5": (
        events(having(D, x=lambda rows: np.zeros(len(rows), [("x", "f8")]))),
        "field x: found [",
    ),
    "x_bits.h5": (strange(h5py.h5t.STD_B32LE), "field x: found an unusual form of uint32"),
    "x_float.h5": (strange(odd_float()), "field x: found an unusual form of float128"),
    "field_nameless.h5": (
        damaged(lambda content: content.replace(b"sigma\0", bytes(6))),
        f"table {T}, field sigma_R: found only DistributionId, R, , beta",
    ),
    "x_time.h5": (strange(h5py.h5t.UNIX_D32LE), f"table {D}: "),
    "id_logical.h5": (
        events(having(D, ElectronId=lambda rows: rows["x"] > 0)),
        "field ElectronId: found bool",
    ),
    "id_real.h5": (
        events(having(G, DistributionId=lambda rows: rows["r"])),
        f"table {G}, field DistributionId: found float64",
    ),
    "names.h5": (names_of_all_kinds, "found tables group0, group1, "),
    "name_bytes.h5": (cut_utf8_name, "expected one of "),
    "field_names.h5": (
        electrons(np.zeros(3, [("a\nb", "f8"), ("\x1b[2J", "f8")])),
        "field x: found only a b, ?[2J",
    ),
    "twice_detected.h5": (
        events(twice_detected(1)),
        f"table {D}, field ElectronId: found the same id in several rows",
    ),
    "thrice_detected.h5": (
        events(twice_detected([900, 1800])),
        f"table {D}, field ElectronId: found the same id in several rows",
    ),
    "ids_match_nothing.h5": (
        events(having(D, ElectronId=lambda rows: rows["ElectronId"] + 10**6)),
        f"table {D}, field ElectronId: found no electron of any distribution",
    ),
    "owners_match_nothing.h5": (
        events(having(G, DistributionId=lambda rows: rows["DistributionId"] + 99)),
        f"table {D}, field ElectronId: found no electron of any distribution",
    ),
    "none_inside.h5": (events(all_outside), f"table {D}, field x and z: found no electron on"),
    "pair_none_inside.h5": (pair([(1.0, 0.0)]), "field x and z: found no electron on"),
    "pair_nan.h5": (pair([(0.0, 0.0), (0.0, np.nan)]), "field z: found nan in row 1"),
    "pair_inf.h5": (pair([(np.inf, 0.0)]), "field x: found inf in row 0"),
    "pair_ids.h5": (
        pair(SphereId=np.array([1, 1], "u1")),
        "table Truth, field SphereId: found id 1 in several rows",
    ),
    "radius.h5": (
        events(put(T, "R", 2, -np.inf)),
        f"table {T}, field R: found a value that is not finite in row 2",
    ),
    "beta_rank.h5": (pair(beta=np.zeros((2, 3, 4))), "field beta: found float64[3, 4]"),
    "beta_text.h5": (pair(beta=np.full((2, 3), b"abc")), "field beta: found |S3"),
}  # fmt: skip


class Exploit:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self):
        return (open, ("unpickled", "w"))


def header(text, version=b"\x01\x00", length=None):
    """An .npy with this header and 4 kB of zeros."""

    def build(path):
        line = text.encode() + b"\n"
        size = len(line) if length is None else length
        count = struct.pack("<H" if version == b"\x01\x00" else "<I", size)
        path.write_bytes(b"\x93NUMPY" + version + count + line + bytes(4096))

    return build


def shaped(shape, kind="'<f8'"):
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}")


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive(method=zipfile.ZIP_DEFLATED, name="a.npy", content=None):
    def build(path):
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr(name, npy(COUNTS) if content is None else content())

    return build


def changed(build, change):
    """What `build` writes, its bytes changed."""

    def built(path):
        build(path)
        path.write_bytes(change(path.read_bytes()))

    return built


def flipped(place):
    """Inverts one byte."""

    def change(content):
        at = place % len(content)
        return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]

    return change


def png(array=GREY, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


def huge_png(path):
    """50 000 x 50 000 in the header, of 16 x 16 there."""
    png()(path)
    content = path.read_bytes()
    fields = struct.pack(">II", 50000, 50000) + content[24:29]
    head = b"IHDR" + fields
    path.write_bytes(content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:])


def png_bomb(path):
    """9000 x 9000 zeros in 80 kB: more than a file of that size may hold."""
    Image.new("L", (9000, 9000)).save(path)


def tiff(array=GREY, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def with_tags(build, **values):
    """Overwrites tags of the first page in place."""

    def built(path):
        build(path)
        with tifffile.TiffFile(path, mode="r+") as file:
            for name, value in values.items():
                file.pages[0].tags[name].overwrite(value)

    return built


def ifds(links, width=16, height=16):
    """Pages of 16 x 16 zeros; page i goes on to page links[i], -1 for the end, else an offset."""

    def build(path):
        size, start = 2 + 10 * 12 + 4, 8 + 512
        content = struct.pack("<2sHI", b"II", 42, start) + bytes(512)
        for link in links:
            tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1),
                    (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 512),
                    (339, 3, 1)]  # fmt: skip
            after = {-1: 0}.get(link, start + link * size if link < 10**6 else link)
            content += struct.pack("<H", len(tags))
            content += b"".join(struct.pack("<HHII", code, kind, 1, v) for code, kind, v in tags)
            content += struct.pack("<I", after)
        path.write_bytes(content)

    return build


def strip_bomb(path):
    """A TIFF of 16 x 16 pixels whose one strip inflates to 2 GB."""
    bomb = zeros(2000)
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, 16), (279, 4, len(bomb)), (339, 3, 1)]  # fmt: skip
    content = struct.pack("<2sHI", b"II", 42, 8 + len(bomb)) + bomb + struct.pack("<H", len(tags))
    content += b"".join(struct.pack("<HHII", code, kind, 1, v) for code, kind, v in tags)
    path.write_bytes(content + bytes(4))


def image_set(values, **options):
    def build(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=values, **options)

    return build


def image_bomb(path):
    """A thousand pictures of zeros in 4 MB: 4 GB, and 8 as they would be returned."""
    packed = zlib.compress(bytes(1024 * 1024 * 4), 9)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "images", (1000, 1024, 1024), "u4", chunks=(1, 1024, 1024), compression="gzip"
        )
        for number in range(1000):
            data.id.write_direct_chunk((number, 0, 0), packed)


def image_chunk(raw, **options):
    def build(path):
        with h5py.File(path, "w") as file:
            data = file.create_dataset("images", (1, 16, 16), "u4", chunks=(1, 16, 16), **options)
            data.id.write_direct_chunk((0, 0, 0), raw() if callable(raw) else raw)

    return build


def image_link(path):
    image_set(COUNTS)(path.with_suffix(".other"))
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink(path.with_suffix(".other").name, "images")


def nested_circle(path):
    """Groups that hold one another."""
    with h5py.File(path, "w") as file:
        file["a/b"] = np.arange(3)
        file["a/a"] = file["a"]


def events_elsewhere(path):
    """Columns of events that lie in another file."""
    with h5py.File(path.with_suffix(".other"), "w") as file:
        file["x"] = file["y"] = COUNTS[0]
    with h5py.File(path, "w") as file:
        for name in "xy":
            file[f"a/{name}"] = h5py.ExternalLink(path.with_suffix(".other").name, name)


def column_bomb(path):
    """Columns of 4 GB of zeros in a few MB."""
    with h5py.File(path, "w") as file:
        for name in "xy":
            data = file.create_dataset(
                f"a/{name}", (2**29,), "f8", chunks=(2**20,), compression="gzip"
            )
            data.id.write_direct_chunk((0,), zlib.compress(bytes(2**23)))


def written(content):
    return lambda path: path.write_bytes(content() if callable(content) else content)


def gzip_zeros(size):
    """A gzip file of zero bytes; its checksum is wrong, but nobody should get there."""
    return zeros(size, b"\x1f\x8b\x08" + bytes(6) + b"\xff") + bytes(8)


TEXT = "\n".join(" ".join(map(str, row)) for row in COUNTS).encode()
RGB = np.zeros((16, 16, 3), np.uint8)
DATA = "found unreadable data"
IMAGES = {
    "truncated.npy": (changed(lambda p: np.save(p, COUNTS), lambda c: c[:-9]), DATA),
    "head.npy": (changed(lambda p: np.save(p, COUNTS), lambda c: c[:40]), DATA),
    "behind.npy": (
        changed(lambda p: np.save(p, COUNTS), lambda c: c + b"\0"),
        "found bytes behind the array",
    ),
    "huge.npy": (shaped((10**6, 10**6)), "1000000 x 1000000 pixels in a file of"),
    "huge_stack.npy": (shaped((10**9, 16, 16)), "1000000000 x 16 x 16 pixels in a file of"),
    "overflow.npy": (shaped((2**62, 2**31, 2**31)), "4611686018427387904 x"),
    "minus.npy": (shaped((-1, -1)), "shape (-1, -1)"),
    "minus_stack.npy": (shaped((-1, 16, 16)), "shape (-1, 16, 16)"),
    "structured.npy": (shaped((16, 16), "[('a', '<f8')]"), "found values of type [('a'"),
    "structured_utf8.npy": (
        header("{'descr': [('σ', '<f8')], 'fortran_order': False, 'shape': (2, 2)}", b"\x03\x00"),
        "found format (3, 0)",
    ),
    "words.npy": (shaped((16, 16), "'<U9'"), "found values of type <U9"),
    "long_words.npy": (shaped((16, 16), "'<U500000000'"), "found values of type <U5000"),
    "dates.npy": (shaped((16, 16), "'<M8[s]'"), "found values of type datetime64"),
    "one.npy": (shaped((1, 1)), "found 1 x 1 pixels"),
    "ones.npy": (shaped((9, 1, 1)), "found 9 x 1 pixels"),
    "version.npy": (header("{}", b"\x09\x00"), "found format (9, 0)"),
    "no_header.npy": (header("{}"), DATA),
    "call.npy": (header("__import__('os').system('touch unpickled')"), DATA),
    "deep.npy": (header("-" * 9000 + "1"), DATA),
    "nested.npy": (header("(" * 9000), DATA),
    "long_header.npy": (header("{" + " " * 20000 + "}"), DATA),
    "header_length.npy": (header("{}", b"\x02\x00", 2**32 - 1), DATA),
    "pickle.npy": (written(lambda: pickle.dumps(Exploit())), "found an unknown kind of file"),
    "pickled.npy": (
        lambda path: np.save(path, np.array([[Exploit()]]), allow_pickle=True),
        "Object arrays cannot be loaded",
    ),
    "pickled.npz": (
        lambda path: np.savez(path, counts=COUNTS, evil=np.array([[Exploit()]])),
        ":evil: found unreadable data (Object arrays",
    ),
    "pickle.npz": (
        archive(content=lambda: pickle.dumps(Exploit())),
        ":a: found unreadable data",
    ),
    "truncated.npz": (changed(archive(), lambda c: c[: len(c) // 2]), DATA),
    "checksum.npz": (
        changed(archive(zipfile.ZIP_STORED), flipped(400)),
        ":a: found unreadable data (Bad CRC-32",
    ),
    "note.npz": (archive(name="note.txt", content=lambda: "text"), "expected rows of numbers"),
    "note\n.npz": (
        archive(name="a\n\x1b[2Jb.npy", content=lambda: "text"),
        ":a ?[2Jb: found unreadable data",
    ),
    "lzma.npz": (archive(zipfile.ZIP_LZMA), ":a: found compression 14"),
    "bomb.npz": (
        lambda path: np.savez_compressed(path, a=np.zeros((10000, 10000), np.uint8)),
        ":a: found 10000 x 10000 pixels in a file of",
    ),
    "behind.npz": (
        archive(content=lambda: npy(COUNTS) + bytes(10**7)),
        ":a: found bytes behind the array",
    ),
    "huge.npz": (
        archive(content=lambda: npy(COUNTS).replace(b"16, 16), }  ", b"90000,90000)}")),
        "90000 x 90000 pixels in a file of",
    ),
    "many.npz": (
        lambda path: np.savez_compressed(
            path, **{f"a{i}": np.zeros((8192, 4096), np.uint8) for i in range(3)}
        ),
        ":a2: found 8192 x 4096 pixels in a file of",
    ),
    "one.txt": (written(b"7\n"), "expected rows of numbers"),
    "infinite.txt": (written(b"1e999 2\n3 4\n"), "found inf in row 0, column 0"),
    "complex.txt": (written(b"1 2\n1+2j 2\n3 4\n"), ", line 2: found '1+2j'"),
    "nul.txt": (written(b"1 2\0\n3 4\n"), "found an unknown kind of file"),
    "word.txt": (written(b"1 2\n" + b"x" * 500000 + b" 2\n3 4\n"), ", line 2: found 'xxx"),
    "line.txt": (written(b"1 " * MIB), "found 1 x 1048576 pixels"),
    "blank.txt": (written(b"\n" * 10**5), "expected the rows of a picture"),
    "cut.txt.bz2": (written(bz2.compress(TEXT)[:-9]), DATA),
    "checksum.txt.gz": (written(flipped(-8)(gzip.compress(TEXT))), DATA),
    "behind.txt.gz": (written(gzip.compress(TEXT) + b"more"), DATA),
    "line.txt.gz": (written(lambda: gzip_zeros(2000)), "that unpacks to over 1"),
    "line.txt.bz2": (
        written(lambda: bz2.compress(b"1" * 30 * MIB)),
        "expected rows of numbers",
    ),
    "rows.csv.gz": (
        written(lambda: gzip.compress((b"0," * 4999 + b"0\n") * 9000, 1)),
        "found over 67108864 bytes of text",
    ),
    "comments.txt.bz2": (
        written(lambda: bz2.compress((b"#" + b" " * (MIB // 2) + b"\n") * 100) * 8),
        "that unpacks to over 1",
    ),
    "truncated.png": (changed(png(), lambda c: c[: len(c) // 2]), DATA),
    "checksum.png": (changed(png(compress_level=0), flipped(200)), DATA),
    "huge.png": (huge_png, "50000 x 50000 pixels in a file of"),
    "bomb.png": (png_bomb, "9000 x 9000 pixels in a file of"),
    "colour.png": (png(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)), "found false colours"),
    "alpha.png": (
        png(np.arange(512, dtype=np.uint8).reshape(16, 16, 2) % 255),
        "found a picture that is transparent in places",
    ),
    "one.png": (png(np.ones((1, 1), np.uint8)), "found 1 x 1 pixels"),
    "jpeg.png": (lambda path: Image.new("L", (16, 16)).save(path, "JPEG"), "found a JPEG"),
    "truncated.tif": (changed(tiff(compression="zlib"), lambda c: c[:-20]), DATA),
    "truncated_pixels.tif": (changed(ifds([-1]), lambda c: c[:100]), "found no pages"),
    "head.tif": (changed(tiff(), lambda c: c[:8]), "found no pages"),
    "nan.tif": (tiff(np.full((4, 4), np.nan, np.float32)), "found NaN in every pixel"),
    "complex.tif": (tiff(COUNTS.astype(np.complex64)), "page 0: found values of type complex64"),
    "one.tif": (tiff(np.ones((1, 1), np.uint8)), "page 0: found 1 x 1 pixels"),
    "planes.tif": (
        tiff(GREY + np.arange(3, dtype=np.uint8)[:, None, None], photometric="rgb",
             planarconfig="separate"),
        "page 0: found false colours",
    ),
    "huge.tif": (ifds([-1], 10**6, 10**6), "1000000 x 1000000 pixels in a file of"),
    "bomb.tif": (strip_bomb, "page 0: found unreadable data"),
    "codec.tif": (with_tags(tiff(), Compression=5), "page 0: found unreadable data"),
    "no_codec.tif": (with_tags(tiff(), Compression=4711), "page 0: found unreadable data"),
    "no_bytes.tif": (with_tags(tiff(), StripByteCounts=0), "page 0: found strips without data"),
    "no_strips.tif": (
        with_tags(tiff(rowsperstrip=8), RowsPerStrip=4),
        "incorrect StripByteCounts",
    ),
    "huge_tiles.tif": (
        with_tags(tiff(tile=(16, 16)), TileWidth=65520, TileLength=65520),
        "page 0: found strips or tiles of 4292870400 pixels",
    ),
    "circle.tif": (ifds([1, 2, 0]), "found pages that go round in a circle"),
    "long_circle.tif": (ifds([*range(1, 200), 50]), "found pages that go round in a circle"),
    "lost_page.tif": (ifds([1, 10**8]), "invalid page offset"),
    "lost_tags.tif": (changed(ifds([1, -1]), lambda c: c[:-60]), DATA),
    "group.h5": (
        lambda path: h5py.File(path, "w").create_group("images").file.close(),
        "found tables images, expected a picture",
    ),
    "line.h5": (image_set(COUNTS[0]), "table images: found an array of shape (16,)"),
    "rgb.h5": (image_set(np.zeros((2, 16, 16, 3))), "table images: found an array of shape (2, 16"),
    "scalar.h5": (image_set(1.0), "table images: found an array of shape ()"),
    "nothing.h5": (image_set(h5py.Empty("f8")), "table images: found an array of shape ()"),
    "none.h5": (bare("images", 0, 16, 16), "table images: found an array of shape (0, 16, 16)"),
    "one.h5": (image_set(np.ones((1, 1))), "table images: found 1 x 1 pixels"),
    "words.h5": (image_set(np.full((4, 4), b"a")), "table images: found values of type |S1"),
    "texts.h5": (
        image_set(np.full((4, 4), b"a"), dtype=h5py.string_dtype()),
        "table images: found values of type object",
    ),
    "table.h5": (image_set(np.zeros((4, 4), ROW)), "table images: found a table of shape (4, 4)"),
    "nan.h5": (image_set(np.full((2, 4, 4), np.nan)), "[0]: found NaN in every pixel"),
    "unwritten.h5": (
        bare("images", 10**6, 1024, 1024, dtype="u4", chunks=(1, 1024, 1024)),
        "table images: found 0 of 1000000 chunks",
    ),
    "bomb.h5": (image_bomb, "found 1000 x 1024 x 1024 pixels in a file of"),
    "bomb_in_chunk.h5": (
        image_chunk(lambda: zeros(2000), compression="gzip"),
        "table images: found unreadable data (a chunk",
    ),
    "short_chunk.h5": (
        image_chunk(zlib.compress(bytes(99)), compression="gzip", shuffle=True),
        "table images: found unreadable data (a chunk",
    ),
    "link.h5": (image_link, "table images: found a link to another file"),
    "circle.h5": (nested_circle, "found tables a, "),
    "out.h5": (
        lambda path: events_elsewhere(path),
        "found tables a, expected a picture, or columns x and y of events",
    ),
    "columns.h5": (column_bomb, "table a/x: found 1 of 512 chunks"),
    "long.mat": (
        lambda path: scipy.io.savemat(
            path, {"a": np.zeros((9000, 9000), "u1")}, do_compression=True
        ),
        "9000 x 9000 pixels in a file of",
    ),
    "cut.mat": (
        changed(lambda path: scipy.io.savemat(path, {"a": COUNTS}), lambda c: c[:-900]), DATA,
    ),
    "object.mat": (
        lambda path: scipy.io.savemat(path, {"a": {"b": COUNTS}, "c": "text"}),
        "found variables a 1 x 1 struct, c 1 char, expected one matrix",
    ),
    "claims.mat": (
        written(struct.pack("<5i", 0, 2**16, 2**16, 0, 2) + b"a\0"),
        "65536 x 65536 pixels in a file of",
    ),
    "huge.bmp": (
        written(b"BM" + bytes(16) + struct.pack("<iiHH", 60000, 60000, 1, 8) + b"\xff" * 99),
        "60000 x 60000 pixels in a file of",
    ),
    "bomb.zip": (
        archive(name="a.txt", content=lambda: b"0 " * ((1 << 26) + 9)), "that unpacks to over 1",
    ),
    "book.zip": (archive(name="[Content_Types].xml", content=lambda: "a"), "a workbook of Excel"),
    "nested.gz": (written(lambda: gzip.compress(gzip.compress(TEXT))), "an unknown kind of file"),
    "hdf5.gz": (
        written(lambda: gzip.compress(b"\x89HDF\r\n\x1a\n" + bytes(99))),
        "found a packed HDF5 file",
    ),
    "stack.tif": (
        changed(tiff(np.zeros((4, 16, 16), "u2"), imagej=True, truncate=True), lambda c: c[:-800]),
        "found 2 of the 4 pictures that ImageJ says",
    ),
    "wrapped.npy": (
        lambda path: np.save(path, COUNTS.astype("u2") - np.uint16(100)),
        "a difference of unsigned integers",
    ),
    "fits": (written(b"SIMPLE  =" + b" " * 3000), DATA),
    "huge.fits": (
        written(
            b"".join(
                card.ljust(80)
                for card in (b"SIMPLE  =                    T", b"BITPIX  =                    8",
                             b"NAXIS   =                    2", b"NAXIS1  =               100000",
                             b"NAXIS2  =               100000", b"END")
            ).ljust(2880)
        ),
        "100000 x 100000 pixels in a file of",
    ),
    "sif": (written(b"Andor Technology Multi-Channel File\n65538 1\n65538 "), DATA),
}  # fmt: skip


def answer(**changes):
    """A fit in JSON with other values in its shell."""
    shell = {"R_pixels": 50.0, "R_pixels_error": 0.1, "sigma_pixels": None} | changes
    return pictures([{"file": "a", "shells": [shell]}])


def pictures(value):
    return written(json.dumps({"pictures": value}).encode())


def long_json(path):
    """Larger than memory should hold; a hole, so that it takes no disk."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


MATRIX = {"names": ["radius_1", "sigma_1"], "values": [1, 2], "covariance": [[1, 0]]}
ANSWERS = {
    "list.json": (pictures({"a": 1}), "expected fits: JSON with a key pictures"),
    "none.json": (pictures([]), "expected fits: JSON with a key pictures"),
    "words.json": (pictures(["a"]), "picture 1: "),
    "no_shells.json": (pictures([{"file": "a"}]), "picture 1: the key 'shells' is missing"),
    "empty.json": (pictures([{"file": "a", "shells": []}]), "picture 1: expected a list of shells"),
    "shell.json": (pictures([{"file": "a", "shells": [3]}]), "picture 1: "),
    "radius.json": (answer(R_pixels="wide"), "picture 1: could not convert"),
    "radius_long.json": (answer(R_pixels=10**400), "picture 1: "),
    "sigma.json": (answer(sigma_pixels=[1]), "picture 1: "),
    "matrix.json": (pictures([{"file": "a", "shells": [{}]} | MATRIX]), "covariance must be"),
    "deep.json": (written(b"[" * 10**6), "expected JSON, which ends or breaks"),
    "utf16.json": (written("{}".encode("utf-16")), "expected JSON, which ends or breaks"),
    "digits.json": (written(b'{"pictures": ' + b"1" * 10**6 + b"}"), "expected JSON, which ends"),
    "long.json": (long_json, "found over 67108864 bytes"),
}  # fmt: skip
KINDS = {"events": EVENTS, "images": IMAGES, "answers": ANSWERS}
