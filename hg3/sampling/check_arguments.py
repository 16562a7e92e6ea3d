"""What the operators refuse, in the sentences of csrc/check_arguments.h."""

from torch import Tensor, bfloat16, float16, float32, int64

RAW_TYPES = (float32, bfloat16, float16)
FLOATS = ("x_0_prev", "rows", "bounds")
WHOLE = ("step", "layout", "seed", "patient", "stream")


def check_reverse_step(x_t: Tensor, **others: Tensor) -> None:
    """Raise ValueError in a sentence if shapes do not fit x_t's (B, C, L), or a type or device is another.

    Parameters
    ----------
    others : the other arguments of hg3::reverse_step, by their names in its schema.
    """
    if x_t.dim() != 3:
        _refuse(f"x_t has shape {tuple(x_t.shape)}, expected (B, C, L)")
    if x_t.dtype != float32:
        _refuse(f"x_t is {x_t.dtype}, expected {float32}")
    _check_shapes(x_t, others)
    _check_types(others)
    for name in ("step", "seed"):
        if others[name].numel() != 1:
            _refuse(f"{name} has shape {tuple(others[name].shape)}, expected ()")
    for name, tensor in others.items():
        if tensor.device != x_t.device:
            _refuse(f"{name} is on {tensor.device}, expected {x_t.device}")


def _check_shapes(x_t: Tensor, others: dict[str, Tensor]) -> None:
    batch, channels, rows = x_t.shape[0], x_t.shape[1], others["rows"]
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
