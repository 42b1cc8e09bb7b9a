"""What a fitted model leaves of the counts, with the variance that its noise has."""

from sevi_jax.estimation.dispersion import Residual
from sevi_jax.model.picture_model import PictureModel, Values


def residual_of(picture: PictureModel, values: Values) -> Residual:
    """Counts less means, with the variance that the noise of the model has."""
    data = picture.data
    mean = picture.mean(values)
    if data.off is not None:
        mean = mean + (values.off_scale - data.off_scale) * data.off
    return Residual.of(data.counts, mean, data.noise)
