"""The network as described is the network as trained."""

from itertools import groupby
from pathlib import Path

import pytest

from hg3.errors import ConfigError, SchemaError
from hg3.table.schema import TableSchema
from hg3.training.checkpoint import read_recipe
from hg3.training.describe import describe_model, layout_of
from tests.table.cases import make_schema, make_table, tiny_columns
from tests.training.cases import TINY, make_inputs, tiny_train


def test_lengths_at_every_stage_of_the_default() -> None:
    found = describe_model("hg3", "art-hiv-v2")
    assert (found["length"], found["padded_length"]) == (60, 60)
    others = ("time", "level", "leave", "leave_static")
    lengths = [stage["length"] for stage in found["stages"] if stage["stage"] not in others]
    assert [length for length, _ in groupby(lengths)] == [60, 30, 15, 8, 16, 15, 30, 60]
    shapes = {stage["stage"]: stage["shape"] for stage in found["stages"]}
    assert shapes["enter"] == [1, 60, 96] and shapes["middle.1"] == [1, 8, 96]
    assert shapes["leave"] == [1, 60, found["dynamic_channels"]]
    assert shapes["leave_static"] == [1, found["static_channels"]]


def test_channels_of_the_default() -> None:
    found = describe_model("hg3", "art-hiv-v2")
    # Sex and ethnicity; three reals, five categories of 6 + 4 + 4 + 6 + 2 codes, three flags of 2.
    assert (found["static_channels"], found["dynamic_channels"]) == (2 + 4, 3 + 22 + 6)
    for part, total in (("static", 6), ("dynamic", 31)):
        channels = [c for c in found["channels"] if c["part"] == part]
        starts = [c["first"] for c in channels]
        assert starts == [sum(c["width"] for c in channels[:i]) for i in range(len(channels))]
        assert sum(c["width"] for c in channels) == total


@pytest.mark.parametrize(("complete", "shape_channels"), [("false", 4), ("true", 0)])
def test_channels_of_a_private_training_follow_from_the_schema(
    complete: str, shape_channels: int, tmp_path: Path
) -> None:
    found = describe_model("hg3-private", "art-hiv-v2", {"privacy.complete": complete})
    assert found["dynamic_channels"] == 3 + 22 + 6 + shape_channels  # a record's end and its gaps, two each
    with pytest.raises(SchemaError, match="'height' has no finite bounds"):
        describe_model("hg3-private", make_inputs(tmp_path).schema)


def test_it_is_the_network_that_is_trained(tmp_path: Path) -> None:
    columns = [*tiny_columns(), {"name": "site", "kind": "categorical", "categories": ["only"]}]
    schema = make_schema(columns, name="tiny")
    table = make_table(80).assign(site="only")
    whole = table[table["id"] % 2 == 0]  # records without gaps, that do not end early
    inputs = make_inputs(tmp_path, whole, schema)
    tiny_train(inputs, tmp_path / "run", updates=1)
    recipe = read_recipe(tmp_path / "run")
    found = describe_model("hg3", inputs.schema, TINY)
    layout = recipe.encoder.layout
    assert found["parameters"] == sum(p.numel() for p in recipe.build_network().parameters())
    assert (found["static_channels"], found["dynamic_channels"]) == (layout.n_static, layout.n_dynamic)
    channels = {(c["name"], c["kind"], c["first"], c["width"]) for c in found["channels"]}
    assert channels == {(b.name, b.kind, b.start, b.width) for b in (*layout.static, *layout.dynamic)}
    assert [b.name for b in layout_of(schema).dynamic] == [b.name for b in layout.dynamic]


def test_changes_change_the_network() -> None:
    wide, narrow = (describe_model("hg3", "art-hiv-v2", {"network.width": w}) for w in ("64", "32"))
    assert wide["parameters"] > 3 * narrow["parameters"]
    shallow = describe_model("hg3", "art-hiv-v2", {"network.levels": "1", "network.width": "32"})
    assert {s["length"] for s in shallow["stages"]} == {None, 60, 30}
    assert shallow["parameters"] < narrow["parameters"]


def test_unknown_categories_are_refused(tmp_path: Path) -> None:
    learned: TableSchema = make_schema([{"name": "site", "kind": "categorical"}])
    path = tmp_path / "schema.toml"
    path.write_text(learned.to_toml())
    with pytest.raises(SchemaError, match=r"column 'site' lists no categories, .* list them"):
        describe_model("hg3", path)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="neither a shipped preset"):
        describe_model("none", "art-hiv-v2")
    with pytest.raises(SchemaError, match="neither a shipped schema"):
        describe_model("hg3", "none")
    with pytest.raises(ConfigError, match=r"knows no key 'network\.wide'"):
        describe_model("hg3", "art-hiv-v2", {"network.wide": "1"})
