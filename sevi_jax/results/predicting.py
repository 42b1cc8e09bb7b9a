"""What `sevi_jax.predict` does: files in, answers, tables and figures out."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from sevi_jax.data.answers import check_answer_path, write_answer
from sevi_jax.data.events import read_blur
from sevi_jax.data.fields import HDF5_SUFFIXES
from sevi_jax.data.outputs import check_output
from sevi_jax.detection.detect_file import detect_file
from sevi_jax.errors import InputError
from sevi_jax.estimation.measure import Request
from sevi_jax.network.run import Run, load_run
from sevi_jax.provenance import versions
from sevi_jax.results import answer, fitted
from sevi_jax.results.page import write_page

BACKGROUNDS = {"none": 0, "constant": 1, "smooth": 6}
MOST_ORDERS = 12


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        shells: how many; None is that of the network (1 without one).
        orders: as `parse_orders` takes them.
        background: one of `BACKGROUNDS`.
        origin: of plain pictures, pixels; None finds it.
        reach: as in `measure.Request`.
        positive: likewise.
        blur: likewise; None is what the file says of itself, or 0.
        fit: whether the likelihood is fitted; always done without a network, or with its prior.
        use_prior: whether the fit counts the prior of the run.
        reading: how files are read.
    """

    shells: int | None
    orders: str | None = None
    background: str = "none"
    origin: tuple[float, float] | None = None
    reach: tuple[float, float] | None = None
    positive: bool = False
    blur: float | None = None
    fit: bool = False
    use_prior: bool = False
    reading: answer.Reading = answer.AS_STORED


def parse_orders(text: str | None, shells: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Orders per shell, inner first: of ``2,4,6`` for all, or of ``2,4;2`` for each; None: all.

    Raises:
        InputError: for anything else.
    """
    if text is None:
        return (tuple(range(2, 2 * most + 1, 2)),) * shells
    try:
        found = [tuple(int(n) for n in part.split(",") if n.strip()) for part in text.split(";")]
    except ValueError:
        found = []
    found = found * shells if len(found) == 1 else found
    wrong = any(n < 2 or n % 2 or n > 24 for part in found for n in part)
    if len(found) != shells or not all(found) or wrong:
        raise InputError(
            f"--orders={text}: expected even numbers from 2 to 24 as 2,4,6, for all "
            f"shells or for each of {shells} behind a semicolon"
        )
    return tuple(tuple(sorted(set(part))) for part in found)


def check_outputs(inputs: list[pathlib.Path], output: pathlib.Path) -> None:
    """Raises InputError if one of the files beside the answer must not be written; before any work.

    Args:
        inputs: event files and pictures.
        output: answer file.
    """
    check_answer_path(output)
    written = [output, output.with_suffix(".html")]
    written += [electrons for _, electrons in _electrons_of(inputs, output)]
    figure = re.compile(re.escape(output.stem) + r"_\d+_\w+\.png")
    if output.parent.is_dir():
        written += [path for path in output.parent.iterdir() if figure.fullmatch(path.name)]
    for path in written:
        check_output(path)


def predict_files(
    inputs: list[pathlib.Path], output: pathlib.Path, workdir: pathlib.Path | None, options: Options
) -> None:
    """Predicts every picture of the files; prints tables, writes the answer and, of fits, figures.

    Args:
        inputs: event files and pictures.
        output: answer file.
        workdir: folder of a run; None fits without a network.
        options: what is asked for.

    Raises:
        InputError: naming what is wrong with a file or the options.
    """
    check_outputs(inputs, output)
    run = None if workdir is None else load_run(workdir)
    if run is None:
        if options.use_prior:
            raise InputError("--map needs the prior of a run, --workdir=FOLDER")
        shells, most = options.shells or 1, MOST_ORDERS
    else:
        shells, most = run.network.shells, run.network.orders
        if options.shells not in (None, shells):
            raise InputError(
                f"--shells={options.shells}, but the network in {workdir} is for {shells}"
            )
    fits = run is None or options.fit or options.use_prior
    orders = parse_orders(options.orders, shells, most)
    request = Request(
        orders,
        BACKGROUNDS[options.background],
        options.origin,
        options.positive,
        options.reach,
        options.blur or 0.0,
    )
    if not fits and options.reading.mask is not None:
        raise InputError("--mask is for fits, a network takes whole pictures (--fit)")
    answers: list[dict[str, Any]] = []
    figures: list[list[pathlib.Path]] = []
    electrons = dict(_electrons_of(inputs, output))
    events = [_events_of(path, electrons.get(path)) for path in inputs]
    for path in events:
        if fits:
            for found, drawn in _fits(path, run, request, options, output, len(answers)):
                answers.append(found)
                figures.append(drawn)
        elif run is not None:
            answers += _predictions(path, run, options)
    # fits that start from a network name it too
    write_answer(output, answers, {"versions": versions()} if run is None else run.source)
    print(f"answer: {output}")
    if fits:
        page = output.with_suffix(".html")
        write_page(page, answers, figures)
        print(f"page with all figures: {page}")


def _electrons_of(
    inputs: list[pathlib.Path], output: pathlib.Path
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """The files of camera frames, and where the electrons found on them are kept.

    That is beside the answer, for other fits of the same frames.
    """
    taken: set[str] = set()
    for path in dict.fromkeys(inputs):
        if path.suffix.lower() not in HDF5_SUFFIXES or answer.kind_of(path) != "frames":
            continue
        stem = f"{output.stem}_{path.stem}" if len(inputs) > 1 else output.stem
        name, number = stem, 1
        while name in taken:  # files of the same name, of different folders
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        yield path, output.with_name(f"{name}_electrons.h5")


def _events_of(path: pathlib.Path, electrons: pathlib.Path | None) -> pathlib.Path:
    """The file itself, or of a file of camera frames the electrons that were found on them."""
    if electrons is None:
        return path
    print(detect_file(path, electrons))
    print(f"electrons: {electrons}")
    return electrons


def _fits(
    path: pathlib.Path,
    run: Run | None,
    request: Request,
    options: Options,
    output: pathlib.Path,
    before: int,
) -> Iterator[tuple[dict[str, Any], list[pathlib.Path]]]:
    """Fits the pictures of a file; `before` pictures are in the answer already."""
    shells = len(request.orders)
    events = answer.kind_of(path) != "images"
    pictures = answer.read_pictures(path, shells, None, options.reading)
    for number, (name, counts, mask) in enumerate(pictures, before + 1):
        if events:  # they are counted about the middle
            height, width = counts.shape
            blur = read_blur(path) if options.blur is None else options.blur
            request = dataclasses.replace(request, origin=(height / 2, width / 2), blur=blur)
        stem = output.with_name(f"{output.stem}_{number}")
        yield fitted.fit_picture(name, counts, mask, request, run, options.use_prior, stem)


def _predictions(path: pathlib.Path, run: Run, options: Options) -> list[dict[str, Any]]:
    """Predicts the pictures of a file by the network."""
    size, found = run.network.image.size, []
    for name, counts, _ in answer.read_pictures(path, run.network.shells, size, options.reading):
        found += answer.predict_pictures(run, [name], counts[None])
        print(answer.table(found[-1]))
    return found
