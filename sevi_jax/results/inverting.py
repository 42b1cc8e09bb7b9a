"""What `sevi_jax.invert` does: files in, distributions, tables and figures out."""

import pathlib

from sevi_jax.results import predicting, record
from sevi_jax.results.distribution import invert
from sevi_jax.results.predicting import Answers, Options


def invert_files(
    inputs: list[pathlib.Path], output: pathlib.Path, orders: tuple[int, ...], options: Options
) -> int:
    """Inverts every picture of the files; writes answers, tables of columns, figures and a page.

    Each answer is written when it is there. A file that is no good is said, and the others are
    done.

    Args:
        inputs: pictures, event files and files of camera frames.
        output: answer file, .json.
        orders: n of the beta_n(r) that are free.
        options: what else is asked for; of its arguments of a fit, those of `invert`.

    Returns:
        The exit status: 2 where something was no good.

    Raises:
        InputError: naming what is wrong with the options.
    """
    predicting.check_outputs(inputs, output, options.figures)
    written = Answers(
        output, options.figures, record.source_of_fits(), options.scale, "sevi_jax.invert"
    )
    electrons = dict(predicting.electrons_of(inputs, output))
    try:
        for path in inputs:
            with written.problems(str(path)):
                path = predicting.events_of(path, electrons.get(path))
                kind = predicting.kind_of(path)
                for picture in predicting.pictures_of(path, kind, None, True, options):
                    with written.problems(picture.name):
                        found = invert(picture, orders, **options.fit)
                        print(found, flush=True)
                        columns = written.beside("distribution.csv")
                        found.save(columns)
                        print(f"  columns: {columns}", flush=True)
                        written.add(found.to_dict(), found)
    finally:
        written.close()
    return 2 if written.failed else 0
