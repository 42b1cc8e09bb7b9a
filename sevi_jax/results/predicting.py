"""What `sevi_jax.predict` does: files in, answers, tables and figures out."""

import contextlib
import dataclasses
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sevi_jax.data import answers
from sevi_jax.data.fields import HDF5_SUFFIXES
from sevi_jax.data.load import load_all
from sevi_jax.data.outputs import check_output
from sevi_jax.data.parts import parts_of
from sevi_jax.data.picture import POLARISATIONS, Picture
from sevi_jax.data.replacing import replacing
from sevi_jax.errors import InputError
from sevi_jax.physics.convention import COURSE_ORDERS, half_width
from sevi_jax.results import energies, record

if TYPE_CHECKING:
    from sevi_jax.network.run import Run
    from sevi_jax.results.distribution import Distribution
    from sevi_jax.results.fit import Fit

_ORDERS = set(range(1, 25))
_WRITING_SHARE = 0.05  # of the time, at most, that is spent on writing answers anew


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        shells: how many, or "auto"; None is that of the network.
        orders: of beta per shell, as `parse_orders` gives them; None: 2 for plain pictures, all
            even ones to 24 for the course's event files, those of the network where there is one.
        fit: arguments of `results.fit.fit` besides those: shape, free, background, range, positive.
        reading: arguments of `data.load.load_all`: off, mask, efficiency.
        known: fields of `Picture` that the user states: origin, polarisation, gain, noise,
            off_scale.
        blur: known standard deviation of position errors, half-widths; None is what the file says.
        likelihood: whether the likelihood is fitted; always done without a network, or with its
            prior.
        use_prior: whether the fit counts the prior of the run.
        figures: whether figures and the page are made.
        scale: of the energies that fits get; None states none.
    """

    shells: int | str | None
    orders: tuple[tuple[int, ...], ...] | None = None
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    blur: float | None = None
    likelihood: bool = False
    use_prior: bool = False
    figures: bool = True
    scale: energies.EnergyScale | None = None


def parse_orders(text: str | None, shells: int | str | None) -> tuple[tuple[int, ...], ...] | None:
    """Orders of ``2,4,6``, for all shells, or of ``2,4;2``, for each, inner first.

    Raises:
        InputError: for anything else.
    """
    if text is None:
        return None
    try:
        found = [tuple(int(n) for n in part.split(",") if n.strip()) for part in text.split(";")]
    except ValueError:
        found = [(0,)]
    if not all(found) or len(found) not in (1, shells) or not set(sum(found, ())) <= _ORDERS:
        raise InputError(
            f"--orders={text}: expected numbers from 1 to 24 as 2,4,6, for all shells, or for each "
            "of them behind a semicolon"
        )
    return tuple(tuple(sorted(set(part))) for part in found)


def check_outputs(inputs: list[pathlib.Path], output: pathlib.Path, figures: bool) -> None:
    """Raises InputError if one of the files beside the answer must not be written; before any work.

    Args:
        inputs: event files and pictures.
        output: answer file.
        figures: whether figures and the page are written.
    """
    answers.check_answer_path(output)
    written = [output]
    written += [electrons for _, electrons in electrons_of(inputs, output)]
    if figures:
        written.append(output.with_suffix(".html"))
    kinds = r"(spectrum|distribution)\.csv"
    kinds = rf"(\w+\.png|{kinds})" if figures else kinds
    figure = re.compile(re.escape(output.stem) + r"_\d+_" + kinds)
    if output.parent.is_dir():
        written += [path for path in output.parent.iterdir() if figure.fullmatch(path.name)]
    for path in written:
        check_output(path)


def predict_files(
    inputs: list[pathlib.Path], output: pathlib.Path, workdir: pathlib.Path | None, options: Options
) -> int:
    """Predicts every picture of the files; prints tables, writes answers, figures and a page.

    Each answer is written when it is there. A file that is no good is said, and the others are
    done.

    Args:
        inputs: event files, camera frames and pictures.
        output: answer file.
        workdir: folder of a run; None fits without a network.
        options: what is asked for.

    Returns:
        The exit status: 2 where something was no good.

    Raises:
        InputError: naming what is wrong with the options.
    """
    check_outputs(inputs, output, options.figures)
    run = _run(workdir, options)
    fits = run is None or options.likelihood or options.use_prior
    if options.orders is not None and output.suffix.lower() != ".json":
        record.check_course(options.orders)
    # fits that start from a network name it too
    source = record.source_of_fits() if run is None else run.source
    written = Answers(output, fits and options.figures, source, options.scale)
    electrons = dict(electrons_of(inputs, output))
    try:
        for path in inputs:
            with written.problems(str(path)):
                path = events_of(path, electrons.get(path))
                kind = kind_of(path)
                for picture in pictures_of(path, kind, run, fits, options):
                    with written.problems(picture.name):
                        if fits:
                            found = _fit(picture, kind, run, options)
                            print(found, flush=True)
                            written.add(_with_energies(found, options.scale), found)
                        elif run is not None:
                            written.add(_prediction(picture, run), None)
    finally:
        written.close()
    return 2 if written.failed else 0


def _run(workdir: pathlib.Path | None, options: Options) -> "Run | None":
    """The network, which must fit the options."""
    if workdir is None:
        if options.use_prior:
            raise InputError("--map needs the prior of a run, --workdir=FOLDER")
        return None
    from sevi_jax.network.run import load_run

    run = load_run(workdir)
    if options.shells not in (None, run.network.shells):
        raise InputError(
            f"--shells={options.shells}, but the network in {workdir} is for {run.network.shells}"
        )
    return run


class Answers:
    """What has been found so far, on the disk as soon as it is there.

    Args:
        output: answer file.
        figures: whether figures and a page are made.
        source: what makes them, for the files.
        scale: of energies; with it every fit has its spectrum beside the answer.
        command: its name in messages.
    """

    def __init__(
        self,
        output: pathlib.Path,
        figures: bool,
        source: Mapping[str, Any],
        scale: energies.EnergyScale | None = None,
        command: str = "sevi_jax.predict",
    ):
        self.command = command
        self.output, self.figures, self.source, self.scale = output, figures, source, scale
        self.records: list[dict[str, Any]] = []
        self.parts: list[str] = []
        self.failed = False
        self._written, self._next = 0, 0.0

    @contextlib.contextmanager
    def problems(self, name: str) -> Iterator[None]:
        """Says what is wrong with a file or picture, and goes on behind the block."""
        try:
            yield
        except InputError as error:
            self._say(str(error), name)
        except OSError as error:
            self._say(error.strerror or str(error), error.filename or name)

    def _say(self, message: str, name: str) -> None:
        self.failed = True
        where = "" if name in message or pathlib.Path(name).name in message else f"{name}: "
        print(f"{self.command}: {where}{message}", file=sys.stderr, flush=True)

    def add(self, found: dict[str, Any], fit: "Fit | Distribution | None") -> None:
        """Takes the answer for a picture, with its fit or distribution."""
        spectrum = None
        if fit is not None and self.scale is not None:
            spectrum = fit.spectrum(
                self.scale.calibration, self.scale.photon_energy, self.scale.unit
            )
            path = self.beside("spectrum.csv")
            spectrum.save(path)
            print(f"  spectrum: {path}", flush=True)
        if fit is not None and self.figures:
            from sevi_jax.results import page
            from sevi_jax.results.figures.style import png

            drawn = fit.drawings()
            if spectrum is not None:
                drawn["spectrum"] = png(spectrum.plot())
            paths = []
            for kind, data in drawn.items():
                paths.append(self.beside(f"{kind}.png"))
                with replacing(paths[-1]) as temporary:
                    temporary.write_bytes(data)
            print("  figures: " + ", ".join(map(str, paths)), flush=True)
            self.parts.append(page.part(fit, drawn))
        self.records.append(found)
        if time.monotonic() >= self._next:
            self._write()

    def beside(self, ending: str) -> pathlib.Path:
        """A file of the picture whose answer is the next one."""
        return self.output.with_name(f"{self.output.stem}_{len(self.records) + 1}_{ending}")

    def _write(self) -> None:
        begun = time.monotonic()
        if self.output.suffix.lower() in answers.JSON_SUFFIXES:
            answers.write_json(self.output, record.document(self.records, self.source))
        else:
            rows = [record.course_record(x) for x in self.records]
            answers.write_table(self.output, rows, self.source)
        if self.parts:
            from sevi_jax.results import page

            page.write_parts(self.output.with_suffix(".html"), self.parts)
        self._written = len(self.records)
        now = time.monotonic()
        self._next = now + (now - begun) / _WRITING_SHARE

    def close(self) -> None:
        """Writes what has not been written, and says where all of it is."""
        if self._written < len(self.records):
            self._write()
        if self.records:
            print(f"answer: {self.output}")
        if self.parts:
            print(f"page with all figures: {self.output.with_suffix('.html')}")


def _with_energies(fit: "Fit", scale: energies.EnergyScale | None) -> dict[str, Any]:
    """The record of a fit; with the energies of its shells, which are printed."""
    found = fit.to_dict()
    if scale is None:
        return found
    arguments = (scale.calibration, scale.photon_energy, scale.unit)
    print(energies.table(fit.energies(*arguments)), flush=True)
    return energies.add_energies(found, fit, *arguments)


def electrons_of(
    inputs: list[pathlib.Path], output: pathlib.Path
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """The files of camera frames, and where the electrons found on them are kept.

    That is beside the answer, for other fits of the same frames.
    """
    taken: set[str] = set()
    for path in dict.fromkeys(inputs):
        if path.suffix.lower() not in HDF5_SUFFIXES or kind_of(path) != "frames":
            continue
        stem = f"{output.stem}_{path.stem}" if len(inputs) > 1 else output.stem
        name, number = stem, 1
        while name in taken:  # files of the same name, of different folders
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        yield path, output.with_name(f"{name}_electrons.h5")


def events_of(path: pathlib.Path, electrons: pathlib.Path | None) -> pathlib.Path:
    """The file itself, or of a file of camera frames the electrons that were found on them."""
    if electrons is None:
        return path
    from sevi_jax.detection.detect_file import detect_file

    print(detect_file(path, electrons))
    print(f"electrons: {electrons}")
    return electrons


def kind_of(path: pathlib.Path) -> str:
    """What an input holds: `data.events.file_kind` of event files, ``"images"`` of any other."""
    from sevi_jax.data.readers.hdf5 import is_hdf5

    if not path.is_file() or not is_hdf5(path):
        return "images"
    from sevi_jax.data.events import file_kind

    try:
        return file_kind(path)
    except InputError:  # another program's; `load_all` says what is wrong with it
        return "images"


def pictures_of(
    path: pathlib.Path, kind: str, run: "Run | None", fits: bool, options: Options
) -> Iterator[Picture]:
    """The pictures of a file, with what the user knows of them."""
    shells = options.shells if run is None else run.network.shells
    if kind == "distributions" and shells not in (1, "auto"):
        raise InputError(
            f"{path}: every distribution is a single shell, expected pictures of {shells} "
            "shells; `sevi_jax.evaluate` pairs them"
        )
    size: dict[str, Any] = {} if fits or run is None else {"size": run.network.image.size}
    pictures = load_all(path, **options.reading, **size)
    folder = parts_of(path)[0].parent
    for picture in pictures:
        known: dict[str, Any] = {"name": str(folder / picture.name), **options.known}
        if options.blur is not None:
            known["blur"] = options.blur * half_width(picture.shape)
        if kind == "pair" and shells != "auto" and len(picture.truth.ids) != shells:
            raise InputError(
                f"{path}: table Truth has {len(picture.truth.ids)} shells, expected {shells}"
            )
        yield dataclasses.replace(picture, **known)


def _prediction(picture: Picture, run: "Run") -> dict[str, Any]:
    """The answer of a network alone."""
    from sevi_jax.results import network_answers

    found = network_answers.predict_record(run, picture)
    print(network_answers.text(found), flush=True)
    return found


def _fit(picture: Picture, kind: str, run: "Run | None", options: Options) -> "Fit":
    """Fits a picture, from the network's answer where there is a network."""
    from sevi_jax.results.fit import fit

    shells: Any = options.shells if run is None else run.network.shells
    orders = options.orders
    if orders is None:
        most = COURSE_ORDERS if run is None else COURSE_ORDERS[: run.network.orders]
        orders = ((2,),) if run is None and kind == "images" else (most,)
    more: dict[str, Any] = dict(options.fit)
    if run is not None:
        from sevi_jax.model.components import Shell
        from sevi_jax.results.network_answers import network_start

        every = orders * run.network.shells if len(orders) == 1 else orders
        models = tuple(Shell(own, more.get("shape", "normal")) for own in every)
        more["start"] = network_start(run, picture, models)
        if options.use_prior:
            from sevi_jax.results.training_prior import shells_prior

            more["prior"] = shells_prior(run.synthesis.prior, models, half_width(picture.shape))
    return fit(picture, shells, orders[0] if len(orders) == 1 else orders, **more)


def polarisation_of(text: str) -> float:
    """Degrees of ``vertical``, ``horizontal`` or a number.

    Raises:
        InputError: for anything else.
    """
    try:
        return POLARISATIONS[text] if text in POLARISATIONS else float(text)
    except ValueError:
        names = ", ".join(POLARISATIONS)
        raise InputError(f"--polarisation={text}: expected {names} or degrees") from None
