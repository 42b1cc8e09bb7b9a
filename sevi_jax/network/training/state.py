"""The state of a training run: arrays only; and how it is made."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sevi_jax.config import Config
from sevi_jax.network.network import NetworkSpec, ShellNetwork, constant_shapes, network_constants
from sevi_jax.network.training.sharding import copied, split
from sevi_jax.prng import root_key, stream_key


@flax.struct.dataclass
class TrainState:
    """Everything that a step changes, and the network's constants.

    Attributes:
        step: steps done, int32 scalar.
        params: the network's parameters.
        batch_stats: BatchNorm's running statistics of `params`.
        opt_state: of the optimizer.
        ema_params: exponential moving average of `params`; what evaluation and inference use.
        ema_batch_stats: BatchNorm's statistics of `ema_params`, made afresh before each evaluation
            and each checkpoint.
        constants: input transform and scales of the head.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any
    constants: Any

    @property
    def ema_variables(self) -> dict[str, Any]:
        """What `ShellNetwork.apply` takes, with the averaged parameters."""
        return {
            "params": self.ema_params,
            "batch_stats": self.ema_batch_stats,
            "constants": self.constants,
        }

    @property
    def training_part(self) -> dict[str, Any]:
        """What only training needs: all but `ema_variables`."""
        return {
            "step": self.step,
            "params": self.params,
            "batch_stats": self.batch_stats,
            "opt_state": self.opt_state,
        }

    @classmethod
    def from_parts(cls, ema_variables: dict[str, Any], training: dict[str, Any]) -> "TrainState":
        """Puts `ema_variables` and `training_part` together again."""
        return cls(
            ema_params=ema_variables["params"],
            ema_batch_stats=ema_variables["batch_stats"],
            constants=ema_variables["constants"],
            **training,
        )


def learning_rate_schedule(config: Config) -> optax.Schedule:
    """Linear warm-up over a fraction of the steps, then a cosine to 0 at the last step."""
    train = config.train
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=train.learning_rate,
        warmup_steps=round(train.warmup * train.steps),
        decay_steps=train.steps,
    )


def make_optimizer(
    config: Config, rate: optax.ScalarOrSchedule | None = None
) -> optax.GradientTransformation:
    """AdamW on clipped gradients.

    Args:
        config: a valid configuration.
        rate: learning rate; by default `learning_rate_schedule` of the configuration.
    """
    rate = learning_rate_schedule(config) if rate is None else rate
    return optax.chain(
        optax.clip_by_global_norm(config.train.clip_norm),
        optax.adamw(rate, weight_decay=config.train.weight_decay),
    )


def _initialise(
    spec: NetworkSpec, optimizer: optax.GradientTransformation, key: jax.Array, constants: Any
) -> TrainState:
    """The state of step 0 from a key and the network's constants; traced."""
    _, variables = ShellNetwork(spec).apply(
        {"constants": constants},
        jnp.zeros((1, spec.image.side, spec.image.side), jnp.float32),
        train=False,
        rngs={"params": key},
        mutable=["params", "batch_stats"],
    )
    params, batch_stats = variables["params"], variables["batch_stats"]
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        # copies, since a donated buffer may appear only once
        ema_params=jax.tree.map(jnp.copy, params),
        ema_batch_stats=jax.tree.map(jnp.copy, batch_stats),
        constants=constants,
    )


def state_sharding(state: TrainState, mesh: Mesh, shard_params: bool) -> TrainState:
    """How a state lies on the devices: copied, or its large arrays split.

    Args:
        state: arrays or their shapes.
        mesh: as `data_mesh`.
        shard_params: whether parameters, their average and the optimizer's state are split.

    Returns:
        A sharding in the place of each array.
    """
    sharding = jax.tree.map(lambda _: copied(mesh), state)
    if not shard_params:
        return sharding
    names = ("params", "opt_state", "ema_params")
    parts = {name: split(mesh, getattr(state, name)) for name in names}
    return dataclasses.replace(sharding, **parts)


def init_state(
    spec: NetworkSpec, optimizer: optax.GradientTransformation, seed: int, sharding: TrainState
) -> TrainState:
    """Makes the state of step 0, the same for a seed on any number of devices.

    Args:
        spec: what network.
        optimizer: as `make_optimizer`.
        seed: of the run.
        sharding: where the state shall lie (`state_sharding`).
    """
    # It runs once: 0.1 s longer, but compiled in half the time. GPUs need level 2.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    initialise = jax.jit(
        functools.partial(_initialise, spec, optimizer),
        out_shardings=sharding,
        compiler_options=options,
    )
    return initialise(stream_key(root_key(seed), "init"), network_constants(spec))


def abstract_state(spec: NetworkSpec, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the shapes of `init_state`, without any computation."""
    initialise = functools.partial(_initialise, spec, optimizer)
    return jax.eval_shape(initialise, root_key(0), constant_shapes(spec))
