"""What the operators refuse, in the sentences of csrc/check_arguments.h."""

from torch import Tensor, bfloat16, float16, float32, int64, is_grad_enabled

MOST_STEPS = 2**20  # the bits of a Philox counter that hold the step
OTHERS = ("raw", "x_0_prev", "rows", "step", "layout", "bounds", "seed", "patient", "stream")
RAW_TYPES = (float32, bfloat16, float16)
FLOATS = ("x_0_prev", "rows", "bounds")
WHOLE = ("step", "layout", "seed", "patient", "stream")


def check_reverse_step(x_t: Tensor, *rest: Tensor) -> None:
    """Raise ValueError in a sentence if shapes do not fit x_t's (B, C, L), or a type or device is another.

    Parameters
    ----------
    rest : the other arguments of hg3::reverse_step, in the order of its schema.
    """
    others = dict(zip(OTHERS, rest, strict=True))
    if x_t.dim() != 3:
        _refuse(f"x_t has shape {tuple(x_t.shape)}, expected (B, C, L)")
    if x_t.dtype != float32:
        _refuse(f"x_t is {x_t.dtype}, expected {float32}")
    _check_shapes(x_t, others)
    _check_types(others)
    for name in ("step", "seed"):
        if others[name].numel() != 1:
            _refuse(f"{name} has shape {tuple(others[name].shape)}, expected ()")
    check_devices(x_t, *rest)
    if is_grad_enabled() and any(tensor.requires_grad for tensor in (x_t, others["raw"], others["x_0_prev"])):
        _refuse("an argument requires a gradient, which a step of sampling has not; call it under torch.no_grad()")


def check_devices(x_t: Tensor, *rest: Tensor) -> None:
    for name, tensor in zip(OTHERS, rest, strict=True):
        if tensor.device != x_t.device:
            _refuse(f"{name} is on {tensor.device}, expected {x_t.device}")


def check_tables(step: int, n_rows: int, layout: list[list[int]]) -> None:
    """Raise IndexError if there is no row `step`, ValueError if rows of a layout are not blocks that follow each other.

    Both look at what the tensors hold, which on a GPU would have to wait for it.
    """
    if not 0 <= step < n_rows:
        raise IndexError(f"hg3::reverse_step: step is {step}, expected 0 to {n_rows - 1}")
    for c, row in enumerate(layout):
        head, start, width = row
        opens = c == 0 or start != layout[c - 1][1]
        begins = start == c and (c == 0 or sum(layout[c - 1][1:]) == c) and 1 <= width <= len(layout) - c
        if not (0 <= head <= 3 and (begins if opens else row == layout[c - 1] and c < start + width)):
            _refuse(
                f"layout row {c} is ({head}, {start}, {width}), expected a head from 0 to 3 and blocks that follow one "
                "another"
            )


def _check_shapes(x_t: Tensor, others: dict[str, Tensor]) -> None:
    batch, channels, rows = x_t.shape[0], x_t.shape[1], others["rows"]
    if rows.dim() and rows.shape[0] > MOST_STEPS:
        _refuse(f"rows has {rows.shape[0]} steps, expected at most {MOST_STEPS}, as many as the noise can tell apart")
    wanted: dict[str, tuple[int, ...]] = {
        "raw": tuple(x_t.shape),
        "x_0_prev": tuple(x_t.shape),
        "rows": (rows.shape[0] if rows.dim() else 0, 7),
        "layout": (channels, 3),
        "bounds": (channels, 2),
        "patient": (batch,),
        "stream": (batch,),
    }
    for name, shape in wanted.items():
        if tuple(others[name].shape) != shape:
            _refuse(f"{name} has shape {tuple(others[name].shape)}, expected {shape}")


def _check_types(others: dict[str, Tensor]) -> None:
    if others["raw"].dtype not in RAW_TYPES:
        _refuse(f"raw is {others['raw'].dtype}, expected {RAW_TYPES[0]}, {RAW_TYPES[1]} or {RAW_TYPES[2]}")
    for names, dtype in ((FLOATS, float32), (WHOLE, int64)):
        for name in names:
            if others[name].dtype != dtype:
                _refuse(f"{name} is {others[name].dtype}, expected {dtype}")


def _refuse(what: str) -> None:
    raise ValueError(f"hg3::reverse_step: {what}")
