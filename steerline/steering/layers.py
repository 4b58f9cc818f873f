"""Which layers a mechanism acts in."""

from __future__ import annotations

from steerline.config.layer_selection import Layers
from steerline.errors import SteeringError

_THIRDS = ("early", "middle", "late")


def select_layers(selection: Layers, num_layers: int) -> tuple[int, ...]:
    """The layers that `selection` names in a model of `num_layers`, ascending.

    The thirds of L layers are [0, L // 3), [L // 3, 2 L // 3) and [2 L // 3, L): 24 layers give 8, 8, 8 (the paper's
    1-8, 9-16, 17-24) and 10 give 3, 3, 4. A third of a model with fewer than 3 layers may be empty, which is refused.

    Raises:
        SteeringError: a listed layer does not exist, or no layer is left.
    """
    if selection == "all":
        chosen = tuple(range(num_layers))
    elif isinstance(selection, str):
        third = _THIRDS.index(selection)
        chosen = tuple(range(third * num_layers // 3, (third + 1) * num_layers // 3))
    else:
        chosen = tuple(sorted(selection))
    missing = [layer for layer in chosen if layer >= num_layers]
    if missing:
        raise SteeringError(
            "the model has fewer layers than the steering names",
            got=f"layer {missing[0]}",
            expected=f"0 to {num_layers - 1}",
            fix="name existing layers, or a third: early, middle, late",
        )
    if not chosen:
        raise SteeringError(
            "no layer is selected", got=f"{selection!r} of {num_layers} layers", fix="use `all` or list the layers"
        )
    return chosen
