"""Writes a file of simulated measurements, drawn from the prior of a configuration.

  python -m sevi_jax.synthesize --config=configs/quick.py --kind=distributions --output=train10.h5
  python -m sevi_jax.synthesize --config=configs/quick.py --kind=frames --output=train0.h5
  python -m sevi_jax.synthesize --config=configs/quick.py --kind=images --output=images.h5

Kinds of files:
  distributions  Many single shells with the electrons of each: DistributionParameters,
                 GeneratedElectrons, DetectedElectrons. Of a configuration with two shells,
                 distributions 0, 2, ... follow the prior of the inner shell and 1, 3, ... that of
                 the outer one. A file like the measured ones, 7 GB, takes minutes:
                   ... --kind=distributions --number=100 --output=train10.h5
                 A small one to try things out:
                   ... --kind=distributions --electrons=50000,100000 --output=small.h5
  frames         The shells of one picture as a camera sees them, few electrons a frame: Truth,
                 FinalImage, GeneratedElectrons, DetectedElectrons. The frames alone, as in the
                 test of the course:
                   ... --kind=frames --number=1000 --no_truth --output=finaltest.h5
  images         Pictures of all shells of the configuration and the parameters of each shell:
                 images, Shells. Always full pictures of prior.electrons electrons a shell, also
                 where the configuration folds or weakens them for training.

The same flags give the same file. Lengths are half-widths of the detector; beta is that of
1/2 + sum_i beta_2i P_2i, half of the literature's. A file that this program made is replaced when
the new one is complete; any other that exists only with --overwrite. Any key of the configuration
that has an effect can be changed: --config.prior.radius="(0.5, 0.6)" (sevi_jax.train --help lists
them).
"""

from typing import Any

from absl import flags

from sevi_jax import commands
from sevi_jax.data import outputs
from sevi_jax.errors import InputError

FLAGS = flags.FLAGS

# The defaults are those of `simulation`, which is not imported before the flags are right.
_NUMBERS = "4 distributions, 100 frames, 16 images"

commands.define_config()
flags.DEFINE_enum("kind", None, ["distributions", "frames", "images"], "What the file holds.")
flags.DEFINE_string("output", None, "The file to write, for instance train10.h5.")
flags.DEFINE_integer("number", None, f"How many (default: {_NUMBERS}).")
flags.DEFINE_integer("seed", None, "Another seed gives another file (default: config.seed).")
flags.DEFINE_string(
    "electrons",
    None,
    "Electrons generated per distribution, as LOW,HIGH or one number (default: prior.electrons).",
)
flags.DEFINE_float("detected", None, "Chance of an electron to be detected (default: 0.6).")
flags.DEFINE_float("per_frame", None, "Mean of detected electrons in a frame (default: 86.0).")
flags.DEFINE_integer("frame_size", None, "Pixels along each side of a frame (default: 1024).")
flags.DEFINE_bool("no_truth", None, "Frames alone, without truth and electrons.")
_OVERWRITE = commands.define_overwrite()

# Keys of the configuration that have an effect.
_KEYS = ("seed", "shells", "prior")
_KEYS_OF = {
    "distributions": (*_KEYS, "synthesis.chunk"),
    "frames": _KEYS,
    "images": (*_KEYS, "image.size", "synthesis.renderer", "synthesis.chunk", "eval.batch", "mesh"),
}


def main() -> None:
    config = commands.get_config()
    for name in ("kind", "output"):
        if FLAGS[name].value is None:
            raise InputError(f"--{name} is needed, see --help")
    commands.refuse_keys(_KEYS_OF[FLAGS.kind])
    options = ("number", "seed", "electrons", "detected", "per_frame", "frame_size", "no_truth")
    given: dict[str, Any] = {name: FLAGS[name].value for name in options}
    with commands.guarding([], _OVERWRITE.value):
        outputs.check_output(FLAGS.output)
        from sevi_jax import simulation

        print(simulation.simulate(config, FLAGS.kind, FLAGS.output, **given))


if __name__ == "__main__":
    commands.run(main, "sevi_jax.synthesize", __doc__)
