"""Forms of layers that are fast on the CPU, and the switch between them and XLA's own.

`uses` is asked by every form when a layer is traced; `only` is the switch. What each form gains in
a training step is measured by ``scripts/benchmark_training.py --forms``.
"""

import contextlib
from collections.abc import Iterable, Iterator

import jax

# matmul          convolutions over maps smaller than the kernel, and 1x1 kernels (conv.py)
# winograd        3x3 convolutions of stride 1 and their gradients (winograd.py)
# first_layer     gradient of the kernel of a convolution with one channel (conv.py)
# pool            max-pool (pool.py)
FORMS = ("matmul", "winograd", "first_layer", "pool")

_switched_on = frozenset(FORMS)


def uses(form: str) -> bool:
    """Whether a layer that is traced now takes a form, one of `FORMS`: on the CPU only."""
    return jax.default_backend() == "cpu" and form in _switched_on


@contextlib.contextmanager
def only(forms: Iterable[str]) -> Iterator[None]:
    """Switches all other forms off, for what is traced inside.

    Raises:
        ValueError: a name is none of `FORMS`.
    """
    global _switched_on
    before, wanted = _switched_on, frozenset(forms)
    if unknown := sorted(wanted - set(FORMS)):
        raise ValueError(f"{unknown[0]!r} is none of the forms {', '.join(FORMS)}")
    _switched_on = wanted
    try:
        yield
    finally:
        _switched_on = before
