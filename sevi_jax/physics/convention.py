"""The two conventions of beta and of lengths, and the only place that converts between them.

People and JSON files have the literature's beta, ``I = (1 + sum_n beta_n P_n(cos theta)) / 4 pi``
with n from 1 on, and lengths in pixels. The SEVI course's files, and training, have the density of
cos(theta), ``1/2 + sum_i beta_2i P_2i``, even orders alone, and lengths in half-widths of the
detector. The first, integrated over the azimuth, is the second with twice its beta.
"""

from typing import TypeVar

import numpy as np

LITERATURE = "literature"  # what JSON files call it
LITERATURE_FORMULA = "I = (1 + sum beta_n P_n(cos theta)) / 4 pi"
COURSE_ORDERS = tuple(range(2, 26, 2))

T = TypeVar("T", float, np.ndarray)


def to_literature(beta: T) -> T:
    """The literature's beta (or its error) of the course's."""
    return 2 * beta


def to_course(beta: T) -> T:
    """The course's beta (or its error) of the literature's."""
    return beta / 2


def half_width(shape: tuple[int, int]) -> float:
    """Pixels in a half-width of a picture: half of its longer side."""
    return max(shape) / 2
