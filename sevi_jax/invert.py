"""Find the distribution of radii and directions in pictures, whatever its form, with bands.

  python -m sevi_jax.invert --input=a.tif --output=answer.json
  python -m sevi_jax.invert --orders=2,4 --background=constant --input=a.npy --output=answer.json
  python -m sevi_jax.invert --input=a.tif --calibration=cal.json --photon_energy=2.7293 \\
      --unit=cm-1 --output=answer.json

For pictures that are no thin shells: I(r), I(r) beta_n(r) and beta_n(r) are free at every pixel of
the radius and as smooth as the counts allow. Rings are fitted better by sevi_jax.predict. Input: as
of sevi_jax.predict, which explains the flags of pictures too. Output: all arrays with their errors
and the goodness of the fit in JSON, and beside it for every picture <answer>_<number>_
distribution.csv (radius, intensity, beta with bands), figures, and one page with all of it; with
--calibration also the spectrum as <answer>_<number>_spectrum.csv.
"""

import pathlib

from absl import flags

from sevi_jax import commands, picture_flags
from sevi_jax.errors import InputError

_ORDERS = flags.DEFINE_string("orders", "2", "Orders of beta that are free, as 2,4.")
flags.adopt_module_key_flags(picture_flags)


def main() -> int:
    """Inverts and writes the answers."""
    given = picture_flags.given()
    if pathlib.Path(given.output).suffix.lower() != ".json":
        raise InputError(f"--output={given.output}: expected a name that ends in .json")
    from sevi_jax.results import inverting, predicting

    orders = predicting.parse_orders(_ORDERS.value, 1)
    assert orders is not None
    options = given.options(shells="auto", fit=given.fit)
    with commands.guarding(given.files, given.overwrite):
        return inverting.invert_files(given.inputs, given.output, orders[0], options)


if __name__ == "__main__":
    commands.run(main, "sevi_jax.invert", __doc__)
