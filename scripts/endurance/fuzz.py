"""Coverage-guided fuzzing of the readers of files: events, camera frames, pictures, answers.

  python -m venv --system-site-packages fuzz && fuzz/bin/pip install atheris
  fuzz/bin/python scripts/endurance/fuzz.py --seconds=600 --work=fuzz/work

A finding is anything but an `InputError` of one line, more than 5 s of CPU time, or more than 1 GiB
of memory for one file of at most 64 KiB; for all files of a process together, 2 GiB. Findings are
written to --work/findings, the file with the traceback beside it, and the fuzzing goes on: in the
same process after an exception, in a new one after a crash or a hang. The corpus, small valid files
of every format to begin with, stays in --work/corpus, so that another call goes on from there. Exit
status 1 if there were findings.

Atheris (libFuzzer) is no requirement of the project: it is needed for this alone.
"""

import argparse
import bz2
import contextlib
import gzip
import hashlib
import importlib
import io
import lzma
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

SECONDS, MEMORY = 5.0, 1 << 30  # of one file
HANG = 60  # seconds of the clock, on a machine that others use too
MAX_BYTES = 1 << 16
# What the first byte of an input stands for: the reader and the suffix of the file. Pictures are
# known by what is in them.
FORMATS = (
    ("events", ".h5"),
    ("pictures", ".dat"),
    ("answers", ".json"),
    ("frames", ".h5"),
)
WORDS = (
    b"\x89HDF\r\n\x1a\n", b"OHDR", b"OCHK", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"FHDB",
    b"FADB", b"FAHD", b"EAHD", b"BTHD", b"BTLF", b"DetectedElectrons", b"GeneratedElectrons",
    b"DistributionParameters", b"Truth", b"images",
    b"FinalImage", b"ImageId", b"blur", b"ATTR", b"II*\0", b"MM\0*",
    b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"acTL", b"PK\x01\x02", b"PK\x03\x04",
    b"PK\x05\x06", b"\x93NUMPY", b"'descr'", b"'shape'", b"'|O'", b"'<f8'", b"pictures", b"shells",
    b"beta", b"nan", b"1e999", b"\xff" * 8, b"\xff" * 4, b"\0" * 8, b"MATLAB 5.0 MAT-file",
    b"MATLAB 7.3 MAT-file", b"SIMPLE  =", b"XTENSION= 'BINTABLE'", b"NAXIS   =", b"BITPIX  =",
    b"Andor Technology Multi-Channel File\n", b"ImageJ=1.11a\nimages=4\n", b"BM", b"\xff\xfe",
    b"centroided", b"x y tof\n", b";", b",", b"\t", b"\"", b"Content_Types",
)  # fmt: skip
# Others take minutes to instrument: their files are fuzzed without being told their branches.
INSTRUMENTED = ["sevi_jax.data", "h5py._hl", "zipfile", "sif_parser"]


def rows(**columns: object) -> np.ndarray:
    """A compound table from its columns."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    kinds = [(name, array.dtype, array.shape[1:]) for name, array in arrays.items()]
    table = np.zeros(len(next(iter(arrays.values()))), kinds)
    for name, array in arrays.items():
        table[name] = array
    return table


def hdf5(
    tables: Mapping[str, Any], libver: str = "earliest", blur: Any = None, **options: Any
) -> bytes:
    """The bytes of an HDF5 file with these tables, and with `blur` at DetectedElectrons."""
    with tempfile.NamedTemporaryFile(suffix=".h5") as temporary:
        with h5py.File(temporary.name, "w", libver=libver) as file:
            for name, values in tables.items():
                shape = np.shape(values)
                chunks = (min(7, shape[0]), *shape[1:]) if options else None
                file.create_dataset(name, data=values, chunks=chunks, **options)
            if blur is not None:
                file["DetectedElectrons"].attrs["blur"] = blur
        return pathlib.Path(temporary.name).read_bytes()


def valid_files() -> list[tuple[str, str, bytes]]:
    """Small valid files of every format: (reader, suffix, content)."""
    rng = np.random.default_rng(0)
    many = {
        "DistributionParameters": rows(
            DistributionId=np.arange(2, dtype="i4"), R=[0.4, 0.6], sigma_R=[0.01] * 2,
            beta=rng.normal(size=(2, 3)),
        ),
        "GeneratedElectrons": rows(
            DistributionId=np.arange(20, dtype="i4") % 2, ElectronId=np.arange(20, dtype="i4"),
            r=np.ones(20), costheta=np.zeros(20),
        ),
        "DetectedElectrons": rows(
            ElectronId=np.arange(0, 20, 2, dtype="i4"), x=rng.uniform(-1, 1, 10),
            z=rng.uniform(-1, 1, 10),
        ),
    }  # fmt: skip
    pair = {
        "Truth": rows(SphereId=np.arange(2, dtype="u1"), R=[0.4, 0.6], sigma=[0.01] * 2,
                      beta=np.zeros((2, 3))),
        "DetectedElectrons": rows(x=rng.uniform(-1, 1, 10), z=rng.uniform(-1, 1, 10)),
    }  # fmt: skip
    pictures = np.arange(48, dtype=np.uint16).reshape(3, 4, 4)
    found = {"DetectedElectrons": pair["DetectedElectrons"]}
    files = [("events", ".h5", hdf5(found, blur=blur)) for blur in (0.003, 1, [0.1], b"x")]
    frames = {"FinalImage": rows(ImageId=np.arange(4), Image=np.zeros((4, 64, 64), "u1"))}
    for kind, tables in (
        ("events", many), ("events", pair), ("pictures", {"images": pictures}), ("frames", frames),
        ("pictures", {"entry/data": pictures}), ("pictures", pair),
    ):  # fmt: skip
        for libver in ("earliest", "latest"):
            suffix = ".dat" if kind == "pictures" else ".h5"
            files.append((kind, suffix, hdf5(tables, libver)))
            packed = {"compression": "gzip", "shuffle": True, "fletcher32": libver == "latest"}
            files.append((kind, suffix, hdf5(tables, libver, **packed)))
        files.append((kind, suffix, hdf5(tables, compression="lzf")))

    files += [("pictures", ".dat", content) for content in valid_pictures(rng, pictures)]
    shell = b'{"R": 0.5, "sigma": null, "beta": [0.1, 2e-3]}'
    answer = b'{"pictures": [{"file": "a", "electrons": 3, "shells": [%s]}]}' % shell
    errors_too = answer.replace(b'"R"', b'"R_error": 0.01, "beta_error": [0.1, null], "R"')
    return [*files, ("answers", ".json", answer), ("answers", ".json", errors_too)]


def saved(save: Any, *args: Any, **options: Any) -> bytes:
    """What a function writes to a file."""
    stream = io.BytesIO()
    save(stream, *args, **options)
    return stream.getvalue()


def valid_pictures(rng: np.random.Generator, pictures: np.ndarray) -> Iterator[bytes]:
    """Small valid files of pictures, in every format but this program's own."""
    import astropy.io.fits
    import imagecodecs
    import scipy.io
    import tifffile

    for kind in ("u1", "<u2", ">f4", "<f8", "<i8", "?"):
        yield saved(np.save, pictures.astype(kind))
    yield saved(np.save, rows(x=rng.uniform(0, 99, 20), y=rng.uniform(0, 99, 20)))
    for save in (np.savez, np.savez_compressed):
        yield saved(save, a=pictures, b=pictures[0])
    grey, square = pictures[0].astype("u1"), np.arange(1024, dtype="u2").reshape(32, 32)
    for array in (grey, square, *(np.repeat(g[..., None], 3, 2) for g in (grey, square))):
        yield bytes(imagecodecs.png_encode(array))
    yield bytes(imagecodecs.bmp_encode(grey))
    for options in (
        {}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}, {"rowsperstrip": 5},
        {"compression": "zlib", "rowsperstrip": 5}, {"imagej": True}, {"ome": True},
        {"compression": "lzw", "predictor": True}, {"compression": "packbits"},
        {"compression": "zstd"}, {"compression": "lzma"}, {"compression": "lerc"},
        {"compression": "jpegxl"}, {"compression": "jpeg2000"}, {"compression": "webp"},
    ):  # fmt: skip
        lossy = options.get("compression") in ("webp", "jpegxl", "jpeg2000")
        with contextlib.suppress(Exception):  # what this build of imagecodecs cannot write
            array = np.repeat(grey[..., None], 3, 2) if lossy else square
            yield saved(tifffile.imwrite, array, **options)
    for options in ({"photometric": "minisblack"}, {"imagej": True, "truncate": True}):
        yield saved(tifffile.imwrite, pictures, **options)
    text = b"# counts\n1 2 3\n4 5 6\n7.5 8e1 9\n"
    yield from (text, text.replace(b" ", b", "), text.decode().encode("utf-16"))
    yield from (gzip.compress(text), bz2.compress(text), lzma.compress(text))
    yield b"VMI 3 x 2\n0,5;1,5;\n2,0;3,5;\n1,0;0,0;\nDate: 1.5.\n"
    yield b'"0,5","1"\n"2","3,5"\n'
    yield b"x;y;tof\n" + b"".join(b"%d.5;%d;1e-6\n" % (i, 30 - i) for i in range(20))
    yield hdf5({f"centroided/{name}": rng.uniform(0, 99, 20) for name in ("x", "y", "tof")})
    for options in ({}, {"do_compression": True}, {"format": "4"}):
        yield saved(scipy.io.savemat, {"a": pictures[0], "t": 1.0}, **options)
    fits = astropy.io.fits
    yield saved(fits.HDUList([fits.PrimaryHDU(pictures), fits.ImageHDU(pictures[0])]).writeto)
    table = rows(X=rng.uniform(0, 99, 9), Y=rng.uniform(0, 99, 9))
    yield saved(fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto)
    yield saved(fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(square)]).writeto)
    yield (
        b"Andor Technology Multi-Channel File\n65538 1\n65538 0 0 1 1254330082 -70 "
        + b" " * 11 + b"0 0.1 0.2 0.3 5 \0 0.4 1e-6 0 1 2.0 0 0 1e-9 " + b"0 " * 16
        + b"300 0 0\nDU970\n4 4 5\na.sif \n65538 4\ntext\n65538 " + b" " * 8
        + b"0 0\n65539 0 0 0 0\n0 1 0 0\n0 1 0 0\n0\n422\n13\n13\n5\npixel6\ncounts5\npixel"
        b"65541 1 4 4 1 3 1 48 16\n65538 1 4 4 1 1 1\n0\n0\n0\n"
        + pictures.astype("<f4").tobytes()
    )  # fmt: skip


def with_checksums(png: bytes) -> bytes:
    """The PNG with right checksums, as far as its chunks go: a wrong one would end the reading."""
    parts, at = [png[:8]], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        body = png[at + 4 : at + 8 + length]
        parts += [png[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts)


def read(kind: str, path: pathlib.Path) -> None:
    """Reads a file by the readers of its kind, as the commands do."""
    from sevi_jax.data.events import count_electrons, file_kind, read_blur, read_truth
    from sevi_jax.data.frame_files import open_frames
    from sevi_jax.data.load import load_all
    from sevi_jax.results.energies import read_fits

    if kind == "pictures":  # masks too
        load_all(path)
    elif kind == "frames":
        with open_frames(path) as frames:
            buffer = frames.buffer(frames.block_frames(2))
            for first in range(0, frames.number, len(buffer)):
                frames.read_into(buffer, first)
    elif kind == "answers":
        read_fits(path)
    else:
        if file_kind(path) in ("distributions", "pair"):
            read_truth(path)
        # A small index: 256 MiB would be most of the time, and Atheris keeps what it compares.
        for _ in count_electrons(path, 16, progress=False, index_bytes=1 << 16):
            pass
        read_blur(path)


def peak_memory(restart: bool = False) -> int:
    """Bytes of memory that this process had at most, since the last restart."""
    if restart:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Target:
    """What libFuzzer calls with every input.

    Args:
        findings: folder for what is found.
    """

    def __init__(self, findings: pathlib.Path):
        self._findings = findings
        shared = pathlib.Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)

    def __call__(self, content: bytes) -> None:
        from sevi_jax.errors import InputError

        if not content:
            return
        kind, suffix = FORMATS[content[0] % len(FORMATS)]
        body = content[1:]
        if body.startswith(b"\x89PNG"):
            body = with_checksums(body)
        path = pathlib.Path(self._folder.name) / f"input{suffix}"
        path.write_bytes(body)
        before = peak_memory(restart=True)
        start = time.process_time()
        try:
            read(kind, path)
        except InputError as error:
            message = str(error)
            if not message.startswith(str(path)) or not message.isprintable():
                self._found(suffix, body, f"message: {message!r}", "message")
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            place = str([(frame.filename, frame.lineno) for frame in frames])
            self._found(suffix, body, traceback.format_exc(), type(error).__name__ + place)
        used = time.process_time() - start
        if used > SECONDS:
            self._found(suffix, body, f"{used:.1f} s of CPU time", f"slow{kind}{suffix}")
        taken = peak_memory() - before
        if taken > MEMORY:
            self._found(suffix, body, f"{taken >> 20} MiB of memory", f"memory{kind}{suffix}")

    def _found(self, suffix: str, body: bytes, said: str, key: str) -> None:
        """Keeps one file of every kind of finding."""
        path = self._findings / hashlib.sha1(key.encode()).hexdigest()[:12]
        if not path.with_suffix(".log").exists():
            path.with_suffix(".log").write_text(said)
            path.with_suffix(suffix).write_bytes(body)


def fuzz(work: pathlib.Path, seconds: int) -> None:
    """Fuzzes in this process until the time is over, or the process dies."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        for name in ("data.events", "data.frame_files", "data.load", "results.energies"):
            importlib.import_module(f"sevi_jax.{name}")
    options = {
        "max_total_time": seconds,
        "max_len": MAX_BYTES,
        "len_control": 0,
        "timeout": HANG,
        "report_slow_units": HANG,  # by the clock; the CPU time is looked at here
        "rss_limit_mb": 2 * (MEMORY >> 20),
        "artifact_prefix": f"{work / 'findings'}/",
        "dict": work / "words.txt",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(work / "corpus")], Target(work / "findings"))
    atheris.Fuzz()


def prepare(work: pathlib.Path) -> None:
    """Makes the corpus, unless it is there, and libFuzzer's dictionary."""
    (work / "findings").mkdir(parents=True, exist_ok=True)
    (work / "corpus").mkdir(exist_ok=True)
    for kind, suffix, content in valid_files():
        content = bytes([FORMATS.index((kind, suffix))]) + content
        (work / "corpus" / hashlib.sha1(content).hexdigest()).write_bytes(content)
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in WORDS)
    (work / "words.txt").write_text("".join(f'"{word}"\n' for word in quoted))


def main() -> int:
    """Fuzzes, in one process after the other; returns the exit status."""
    parser = argparse.ArgumentParser(description="Fuzzes the readers of files.")
    parser.add_argument("--seconds", type=int, default=600, help="Seconds to fuzz; 600.")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="Folder for everything.")
    parser.add_argument("--one-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_process:
        fuzz(args.work, args.seconds)
        return 0
    prepare(args.work)
    seeds = len(list((args.work / "corpus").iterdir()))
    executed, processes, coverage = 0, 0, "0"
    end = time.monotonic() + args.seconds
    while (left := int(end - time.monotonic())) > 0:
        command = [sys.executable, __file__, f"--work={args.work}", "--one-process"]
        log = args.work / f"process{processes}.log"
        with log.open("w") as file:
            subprocess.run([*command, f"--seconds={left}"], stdout=file, stderr=file, check=False)
        said = log.read_text(errors="replace")
        units = re.findall(r"^#(\d+)|number_of_executed_units: (\d+)", said, re.MULTILINE)
        executed += max((int(a or b) for a, b in units), default=0)
        coverage = re.findall(r" cov: (\d+)", said)[-1:] or [coverage]
        coverage, processes = coverage[0], processes + 1
        if not units:
            print(said[-2000:], file=sys.stderr)
            return 2
    found = sorted((args.work / "findings").iterdir())
    print(
        f"{executed} files in {args.seconds} s and {processes} processes, corpus {seeds} -> "
        f"{len(list((args.work / 'corpus').iterdir()))}, coverage {coverage}, {len(found)} findings"
    )
    for path in found:
        print(path)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
