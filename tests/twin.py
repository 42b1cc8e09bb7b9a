"""The program's numbers, and the same by its twin in float64.

The twin is the same source with the word float64 for float32 throughout, in a process of its own:

  python twin.py INPUT.npz OUTPUT.npz
"""

import importlib.abc
import importlib.machinery
import os
import pathlib
import subprocess
import sys

import numpy as np


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the source anew, whatever bytecode there is."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path).replace(b"float32", b"float64"), path)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] != "sevi_jax":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = _Loader(fullname, spec.origin)
        return spec


def numbers(inputs):
    """Every number that is compared, from arrays by name: see `test_precision`."""
    return {**_angles(inputs), **_means_and_fit(inputs), **_network(inputs)}


def _angles(inputs):
    """|cos(theta)| from the same random numbers."""
    import jax
    import jax.numpy as jnp

    from sevi_jax.synthesis.electrons import angle_table, draw_abs_cosine

    table = jax.jit(angle_table)(jnp.asarray(inputs["beta"]))
    return {"cosine": draw_abs_cosine(inputs["pick"], inputs["within"], table)}


def _slopes_of(vector, side):
    """Derivatives of the vector of the model by a row."""
    found = np.zeros((len(vector), len(vector)))
    for first in (0, len(vector) // 2):
        part = slice(first, first + len(vector) // 2)
        own = vector[part]
        inner = np.diag([side, side, 1.0, *np.full(len(own) - 3, 2 * own[2])])
        inner[3:, 2] = own[3:] / own[2]
        found[part, part] = inner
    return found


def _as_row(vector, side):
    """A row from the vector of the model."""
    row = np.array(vector).reshape(2, -1)
    row[:, 3:] /= 2 * row[:, 2:3]
    row[:, :2] /= side
    return row.ravel()


def _means_and_fit(inputs):
    """Means, their derivatives, and fits of the pictures, from the same start.

    Rows of `inputs` hold R, sigma, yield and 12 betas of both shells, half-widths and the course's
    beta; so do the numbers found.
    """
    import jax
    import jax.numpy as jnp

    from sevi_jax.estimation.fitting import geometry_at, limits_for
    from sevi_jax.estimation.goodness import judge
    from sevi_jax.estimation.scoring import Reason, covariance, search
    from sevi_jax.model.components import Shell, modes_of
    from sevi_jax.model.means import Layout
    from sevi_jax.model.picture_model import Data, Model, PictureModel, Values
    from sevi_jax.physics.expected import expected_counts
    from sevi_jax.physics.types import ImageSpec, ShellParams

    side = inputs["counts"].shape[-1]
    shells = (Shell(tuple(range(2, 25, 2))),) * 2
    model = Model(shells, Layout(modes_of(shells)))
    geometry = geometry_at((0.0, 0.0), (side, side), 90.0)

    def as_values(row):
        row = np.array(row, float).reshape(2, -1)
        row[:, :2] *= side
        row[:, 3:] *= 2 * row[:, 2:3]
        return Values(tuple(row), geometry)

    found = {name: [] for name in (
        "means", "jacobians", "estimates", "errors", "deviance", "p_value", "converged"
    )}  # fmt: skip
    exposure = np.full((side, side), 4.0)
    for row, counts, start in zip(inputs["rows"], inputs["counts"], inputs["start"], strict=True):
        data = Data(np.asarray(counts, float), exposure)
        values = as_values(row)
        picture = PictureModel(data, model, values)
        jacobian = np.concatenate([np.asarray(part[2]) for part in picture.explicit(values)])
        (band,) = picture.bands  # pixels are few: all are integrated over
        place = band.sorted.place.ravel()
        pixels = np.zeros((side * side, jacobian.shape[1]), jacobian.dtype)
        pixels[band.index[place[place >= 0]]] = jacobian[place >= 0]
        vector = values.vector(model)
        found["means"].append(picture.mean(values).astype(jacobian.dtype))
        found["jacobians"].append(pixels @ _slopes_of(vector, side).astype(jacobian.dtype))
        first = as_values(start)
        picture = PictureModel(data, model, first)
        end = search(picture, first, limits_for(data))
        matrix = covariance(end)
        vector = end.values.vector(model)
        inverse = np.linalg.inv(_slopes_of(vector, side))
        found["estimates"].append(_as_row(vector, side))
        found["errors"].append(np.sqrt(np.diagonal(inverse @ matrix @ inverse.T)))
        judged = judge(picture, end.values, matrix)
        found["deviance"].append(judged.deviance)
        found["p_value"].append(judged.p_value)
        found["converged"].append(end.reason is Reason.CONVERGED)
    row = jnp.asarray(inputs["rows"][0]).reshape(2, -1)
    fields = (row[:, 0], row[:, 1], row[:, 2], row[:, 3:])
    fine = jax.jit(expected_counts, static_argnums=1)(ShellParams(*fields), ImageSpec(352, True))
    return {"fine means": fine, **{name: np.array(values) for name, values in found.items()}}


def network_config():
    """Of a network less small than others: rounding grows where few numbers are normalised."""
    import small

    return small.small_config(image__size=64, model__ladder=16)


def _network(inputs):
    """Loss of a network with random parameters and its gradient."""
    import jax
    import jax.numpy as jnp
    import small

    from sevi_jax.network import losses
    from sevi_jax.network.network import ShellNetwork, constant_shapes
    from sevi_jax.network.training.loop import Trainer

    trainer = Trainer(network_config())
    constants = {name: inputs[f"constant {name}"] for name in constant_shapes(trainer.network)}
    like = trainer.abstract_state()
    dtype = inputs["training beta"].dtype  # flax makes parameters in float32
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        kernel = rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype(np.float32)
        return jnp.asarray(
            kernel if "kernel" in name else float("scale" in name) + 0 * kernel, dtype
        )

    params = jax.tree.map_with_path(fill, like.params)
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, dtype), like.batch_stats)

    @jax.jit
    def loss(params):
        variables = {"params": params, "batch_stats": stats, "constants": constants}
        prediction, _ = ShellNetwork(trainer.network).apply(
            variables, inputs["training counts"], train=True, mutable=["batch_stats"]
        )
        return losses.beta_loss(prediction.beta, inputs["training beta"], "distance")

    with small.quick_compilation():
        value, gradient = jax.value_and_grad(loss)(params)
    flat = [np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]
    return {"loss": value, "gradient": np.concatenate(flat)}


def in_float64(folder, inputs):
    """The numbers of the twin.

    Args:
        folder: for two files.
        inputs: as `numbers`; what is float32 becomes float64.
    """
    import sevi_jax

    folder = pathlib.Path(folder)
    np.savez(folder / "inputs.npz", **inputs)
    line = [sys.executable, __file__, folder / "inputs.npz", folder / "outputs.npz"]
    source = str(pathlib.Path(sevi_jax.__file__).parents[1])
    env = os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": source}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # quick to compile
    result = subprocess.run(line, env=env, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)


def _main(source, target):
    sys.meta_path.insert(0, _Finder())
    with np.load(source) as file:
        inputs = {
            name: values.astype(np.float64) if values.dtype == np.float32 else values
            for name, values in file.items()
        }
    found = {name: np.asarray(values) for name, values in numbers(inputs).items()}
    for name, values in found.items():
        assert values.dtype in (np.float64, bool), (name, values.dtype)
    np.savez(target, **found)


if __name__ == "__main__":
    _main(*sys.argv[1:])
