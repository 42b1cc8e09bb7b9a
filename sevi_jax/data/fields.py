"""The fields and tables of the measured files (docs/course.md), one definition each; no I/O."""

import dataclasses

import numpy as np

TRUTH = "Truth"
DISTRIBUTIONS = "DistributionParameters"
GENERATED = "GeneratedElectrons"
DETECTED = "DetectedElectrons"
FRAMES = "FinalImage"
ANSWER = "Answer"
IMAGES = "images"
SHELLS = "Shells"
BLUR = "blur"  # attribute of DetectedElectrons: standard deviation of position errors, half-widths

HDF5_SUFFIXES = (".h5", ".hdf5")

CONVENTION = "density of cos(theta) = 1/2 + sum_i beta_2i P_2i; literature beta = 2 x this beta"


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a compound table: its names, its place, its type.

    Attributes:
        name: the name that messages, results and new files use.
        aliases: other names; compared without case, underscores and brackets.
        position: its place in the table where no name matches; None: found by name only.
        integer: True for whole numbers; False for any real number.
        rank: 0 for a number, 1 for a vector, 2 for a picture.
    """

    name: str
    aliases: tuple[str, ...] = ()
    position: int | None = None
    integer: bool = False
    rank: int = 0

    def at(self, position: int) -> "Field":
        """The same field, found at `position` of the table where no name matches."""
        return dataclasses.replace(self, position=position)


DISTRIBUTION_ID = Field("DistributionId", ("distribution", "distributions"), integer=True)
SPHERE_ID = Field("SphereId", ("sphere", "shell", "shellid"), integer=True)
ELECTRON_ID = Field("ElectronId", ("electron",), integer=True)
IMAGE_ID = Field("ImageId", integer=True)
RADIUS = Field("R", ("radius",))
SIGMA = Field("sigma_R", ("sigma", "σ", "σ_R"))
BETA = Field("beta", ("betas", "β"), rank=1)
COSINE = Field("cos(theta)", ("cosθ", "cos"))
X = Field("x")
Z = Field("z")
EMISSION_RADIUS = Field("r")
IMAGE = Field("Image", rank=2)
SHELL_ID = Field("ShellId", integer=True)
ELECTRONS = Field("electrons", integer=True)
AMPLITUDE = Field("amplitude")
RESIDUAL = Field("residual")
# A field with one of these names never stands in for another by its position.
KNOWN = (DISTRIBUTION_ID, SPHERE_ID, ELECTRON_ID, IMAGE_ID, RADIUS, SIGMA, BETA, COSINE, X, Z)


def row_type(*columns: tuple[Field, str, tuple[int, ...]]) -> np.dtype:
    """The NumPy type of a table row: (field, type, shape of one value) per column."""
    return np.dtype([(field.name, kind, shape) for field, kind, shape in columns])


FOUND_ELECTRON = row_type(
    (IMAGE_ID, "<i4", ()),
    (ELECTRON_ID, "<i4", ()),
    (X, "<f8", ()),
    (Z, "<f8", ()),
    (AMPLITUDE, "<f4", ()),
    (RESIDUAL, "<f4", ()),
)
