"""The jitted functions of a run: one training step, BatchNorm's statistics, one evaluation batch.

Each draws its own pictures from keys, so nothing but keys goes to the device. All are functions of
(state, root key); the state lies as `state.state_sharding` says, pictures are split over the mesh.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from sevi_jax.network import losses
from sevi_jax.network.network import NetworkSpec, Prediction, ShellNetwork, shape_scales
from sevi_jax.network.resnet import MOMENTUM
from sevi_jax.network.training.sharding import copied, whole
from sevi_jax.network.training.state import TrainState
from sevi_jax.prng import stream_key
from sevi_jax.synthesis.pipeline import Pictures, SynthesisSpec, draw_pictures


@dataclasses.dataclass(frozen=True)
class LossSpec:
    """What is minimised; fields as in `config.default_config().loss`."""

    kind: str
    shape_weight: float


def shape_loss(prediction: Prediction, pictures: Pictures, network: NetworkSpec) -> jax.Array:
    """Mean squared error of R and sigma, each over its prior's standard deviation; scalar."""
    if prediction.radius is None or prediction.sigma is None:
        return jnp.float32(0)
    (_, radius_sd), (_, sigma_sd) = shape_scales(network.prior)
    radius = (prediction.radius - pictures.params.radius) / radius_sd
    sigma = (prediction.sigma - pictures.params.sigma) / sigma_sd
    return jnp.mean(radius**2) + jnp.mean(sigma**2)


def make_train_step(
    network: NetworkSpec,
    synthesis: SynthesisSpec,
    loss_spec: LossSpec,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    batch: int,
    mesh: Mesh,
    sharding: TrainState,
) -> Callable[[TrainState, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes the step ``(state, root key) -> (state, metrics)``, jitted; the state is donated.

    The metrics are scalars: ``loss``, ``squared_loss``, ``shape_loss``, ``distance``,
    ``grad_norm`` and ``acceptance`` (of the condition that densities are positive).
    """
    model = ShellNetwork(network)

    def step(state: TrainState, root: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = stream_key(root, "train", state.step)
        pictures = draw_pictures(key, batch, synthesis, mesh)

        def objective(params):
            prediction, updates = model.apply(
                {
                    "params": whole(mesh, params),
                    "batch_stats": state.batch_stats,
                    "constants": state.constants,
                },
                pictures.counts,
                train=True,
                mutable=["batch_stats"],
            )
            loss = losses.beta_loss(prediction.beta, pictures.params.beta, loss_spec.kind)
            shape = shape_loss(prediction, pictures, network)
            total = loss + loss_spec.shape_weight * shape
            return total, (updates["batch_stats"], prediction, shape)

        (loss, (batch_stats, prediction, shape)), gradient = jax.value_and_grad(
            objective, has_aux=True
        )(state.params)
        beta = pictures.params.beta
        metrics = {
            "loss": loss,
            "squared_loss": losses.beta_loss(prediction.beta, beta, "squared"),
            "shape_loss": shape,
            "distance": jnp.mean(losses.distance(prediction.beta, beta)),
            "grad_norm": optax.tree.norm(gradient),
            "acceptance": pictures.attempts.size / jnp.sum(pictures.attempts),
        }
        state = _updated(state, gradient, optimizer, ema_decay)
        return dataclasses.replace(state, batch_stats=batch_stats), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(sharding, copied(mesh)))


def _updated(
    state: TrainState, gradient: Any, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The state after a step of the optimizer."""
    # optax raises a float to an int32 power, which strict promotion (the tests') refuses
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # the average forgets the first steps faster than its full length
    done = state.step.astype(jnp.float32)
    decay = jnp.minimum(jnp.float32(ema_decay), (1 + done) / (10 + done))
    ema_params = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new, state.ema_params, params
    )
    return dataclasses.replace(
        state, step=state.step + 1, params=params, opt_state=opt_state, ema_params=ema_params
    )


def make_statistics(
    network: NetworkSpec,
    synthesis: SynthesisSpec,
    batch: int,
    batches: int,
    mesh: Mesh,
    sharding: TrainState,
) -> Callable[[TrainState, jax.Array], TrainState]:
    """Makes ``(state, root key) -> state`` with `ema_batch_stats` made afresh, jitted.

    The statistics that BatchNorm keeps while training lag behind, and belong to the parameters of
    the steps, not to their average. Here they are the plain mean over pictures drawn for it
    (`batches` batches of the same keys each time).
    """
    model = ShellNetwork(network)

    def one(state: TrainState, root: jax.Array, index: jax.Array):
        key = stream_key(root, "statistics", index)
        pictures = draw_pictures(key, batch, synthesis, mesh)
        zeros = jax.tree.map(jnp.zeros_like, state.ema_batch_stats)
        params = whole(mesh, state.ema_params)
        _, updates = model.apply(
            {"params": params, "batch_stats": zeros, "constants": state.constants},
            pictures.counts,
            train=True,
            mutable=["batch_stats"],
        )
        # from zero the update is (1 - MOMENTUM) times the batch's own statistics
        return jax.tree.map(lambda x: x / (1 - MOMENTUM), updates["batch_stats"])

    def statistics(state: TrainState, root: jax.Array) -> TrainState:
        def add(index, total):
            return jax.tree.map(jnp.add, total, one(state, root, index))

        zeros = jax.tree.map(jnp.zeros_like, state.ema_batch_stats)
        total = jax.lax.fori_loop(0, batches, add, zeros)
        mean = jax.tree.map(lambda x: x / batches, total)
        return dataclasses.replace(state, ema_batch_stats=mean)

    return jax.jit(statistics, donate_argnums=0, out_shardings=sharding)


def make_finite_check(mesh: Mesh) -> Callable[[TrainState], TrainState]:
    """Makes ``state -> state`` of booleans, jitted: whether an array has finite numbers only."""

    def check(state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: jnp.isfinite(x).all(), state)

    return jax.jit(check, out_shardings=copied(mesh))


@functools.lru_cache(maxsize=8)  # so that a run loaded once more compiles nothing
def make_evaluation(
    network: NetworkSpec, synthesis: SynthesisSpec, batch: int, stream: str, mesh: Mesh
) -> Callable[[dict[str, Any], jax.Array, int], tuple[Pictures, Prediction]]:
    """Makes ``(variables, root key, index) -> (pictures, prediction)`` of a held-out batch, jitted.

    The batch depends on the root key, `stream` and the index only: the same pictures at every
    evaluation. The pictures come without their counts.
    """
    model = ShellNetwork(network)

    def evaluate(variables: dict[str, Any], root: jax.Array, index):
        pictures = draw_pictures(stream_key(root, stream, index), batch, synthesis, mesh)
        prediction = model.apply(whole(mesh, variables), pictures.counts, train=False)
        return dataclasses.replace(pictures, counts=None), prediction

    return jax.jit(evaluate, out_shardings=copied(mesh))


def held_out(
    evaluation: Callable, variables: dict[str, Any], root: jax.Array, pictures: int, batch: int
) -> tuple[Pictures, Prediction]:
    """Runs `make_evaluation`'s function until there are `pictures` pictures; NumPy arrays."""
    batches = range(-(-pictures // batch))
    parts = [jax.device_get(evaluation(variables, root, index)) for index in batches]
    return jax.tree.map(lambda *x: np.concatenate(x)[:pictures], *parts)
