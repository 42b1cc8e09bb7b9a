"""Finds the electrons on camera frames, and writes their positions as an event file.

  python -m sevi_jax.detect --input=finaltest.h5 --output=electrons.h5
  python -m sevi_jax.predict --shells=2 --input=electrons.h5 --output=answer.json

The first line does the frames once; every other command then takes electrons.h5. Input: an .h5 with
the table FinalImage (ImageId, Image: square frames, uint8); other tables are not looked at.
Output: the table DetectedElectrons (ImageId, ElectronId; x, z in half-widths of the detector, first
axis x; amplitude of the spot in grey levels; residual, chi-square per bin around the spot: about 1
for a good fit).

Overlapping spots are fitted together, and their number is found. The spots' mean brightness and
width are estimated from the first frames, from spots that stand alone.

A run that is interrupted (Ctrl-C, a power cut) goes on where it stopped when the same command is
given again; until then what it found lies in electrons.h5.partial/. An earlier result is replaced
when the new one is complete; any other file that exists only with --overwrite.
"""

from absl import flags

from sevi_jax import commands
from sevi_jax.data import outputs
from sevi_jax.errors import InputError

_INPUT = flags.DEFINE_string("input", None, "File with the camera frames, .h5.")
_OUTPUT = flags.DEFINE_string("output", None, "Event file to write, .h5.")
_PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "Processes that search at the same time, each on a core of its own and with 0.6 GiB of memory. "
    "Default: two, where there are two cores; a GPU takes one.",
    lower_bound=1,
)
_OVERWRITE = commands.define_overwrite()


def main() -> None:
    """Finds the electrons and says how many there are."""
    path = commands.paths([_INPUT.value] if _INPUT.value else [], "input")[0]
    if not _OUTPUT.value:
        raise InputError("--output=FILE is needed, an .h5")
    with commands.guarding([path], _OVERWRITE.value):
        outputs.check_output(_OUTPUT.value)
        from sevi_jax.detection.detect_file import detect_file

        print(detect_file(path, _OUTPUT.value, processes=_PROCESSES.value))
    print(f"electrons: {_OUTPUT.value}")


if __name__ == "__main__":
    commands.run(main, "sevi_jax.detect", __doc__)
