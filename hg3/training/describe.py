"""The verb model describe: the real network of a preset and a schema, run once and looked at."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hg3.config import load_preset
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.diffusion.unet import UNet
from hg3.errors import SchemaError
from hg3.layout import Block, Chain, Layout, chained
from hg3.table.chains import has_chain
from hg3.table.column import Column
from hg3.table.schema import OBSERVED_SUFFIX, TableSchema, load_schema
from hg3.table.schema_encoding import encoder_of_schema
from hg3.training.checkpoint import make_network


def describe_model(preset: str | Path, schema: str | Path, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """Return parameters, channels, and length and shape after every stage of one forward pass of one patient.

    The channels are those of a table in which every code occurs and all records are complete; a table with gaps or
    with records of different lengths adds two channels for each. Those of a private training follow from the schema.

    Raises
    ------
    SchemaError
        If a column's categories are left to the training data, or, in a private training, anything is.
    """
    loaded, table = load_preset(preset, changes), load_schema(schema)
    if loaded.privacy is None:
        layout = layout_of(table)
    else:
        layout = encoder_of_schema(table, loaded.encoding.scaling, loaded.privacy.complete)[0].layout
    network = make_network(layout, loaded)
    return {
        "preset": loaded.name,
        "schema": table.name,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "static_channels": layout.n_static,
        "dynamic_channels": layout.n_dynamic,
        "length": layout.length,
        "padded_length": layout.length + network.padding,
        "channels": [
            {"name": b.name, "part": part, "kind": b.kind, "first": b.start, "width": b.width}
            for part, blocks in (("static", layout.static), ("dynamic", layout.dynamic))
            for b in blocks
        ],
        "stages": _trace(network, layout),
    }


def layout_of(schema: TableSchema) -> Layout:
    """Return the channels of a table of `schema` in which every code occurs and no record ends early or has gaps."""
    parts: dict[bool, list[Block]] = {True: [], False: []}
    for column in schema.columns:
        blocks = (Block(name, "real" if width == 1 else "category", 0, width) for name, width in _widths(column))
        parts[column.static].extend(blocks)
    static, dynamic = chained(parts[True]), chained(parts[False])
    return Layout(static, dynamic, schema.length, _uncounted(dynamic), _uncounted(static))


def _uncounted(blocks: tuple[Block, ...]) -> tuple[Chain, ...]:
    """Return chains of one category each before anything is counted: a network has as many weights with any."""
    widths = {number: block.width for number, block in enumerate(blocks) if has_chain(block)}
    return tuple(
        Chain((number,), tuple((code,) for code in range(width)), (0,) * width, ((0,) * width,) * width)
        for number, width in widths.items()
    )


def _widths(column: Column) -> list[tuple[str, int]]:
    """Return the blocks of a column and their widths; a column of a single code is a constant and needs none."""
    if not column.is_real and column.categories is None:
        raise SchemaError(
            f"column {column.name!r} lists no categories, so its channels are known only from a table; list them"
        )
    width = 1 if column.is_real else len(column.categories or ())
    flag = [(column.name + OBSERVED_SUFFIX, 2)] if column.missing == "modelled" else []
    is_constant = not column.is_real and width == 1
    return flag if is_constant else [(column.name, width), *flag]


def _trace(network: UNet | PublishedUNet, layout: Layout) -> list[dict[str, Any]]:
    """Return name, shape and length of what each stage gives in a forward pass of one patient."""
    stages: list[dict[str, Any]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _given: Any, output: Tensor) -> None:
            axis = 1 if network.channels_last or name in ("enter", "leave") else 2
            length = output.shape[axis] if output.dim() == 3 else None
            stages.append({"stage": name, "shape": list(output.shape), "length": length})

        return hook

    shown = [(name, m) for name, m in network.named_modules() if name and name.count(".") <= 1]
    handles = [m.register_forward_hook(note(name)) for name, m in shown if _is_stage(name)]
    length = layout.length + (0 if network.channels_last else network.padding)
    x_static, x_dynamic = torch.zeros(1, layout.n_static), torch.zeros(1, layout.n_dynamic, length)
    with torch.inference_mode():
        network(x_static, x_dynamic, torch.zeros(1).long(), torch.zeros(1, len(layout.static), dtype=torch.bool))
    for handle in handles:
        handle.remove()
    return stages


def _is_stage(name: str) -> bool:
    """Whether a module is a stage of the network, not a detail of one."""
    repeated = ("down_blocks.", "downs.", "middle.", "ups.", "up_blocks.")
    return name in ("time", "level", "enter", "smooth", "leave", "leave_static") or name.startswith(repeated)
