"""Presets: the shipped one loads, any other key or value is named."""

from pathlib import Path
from typing import Any

import pytest

from hg3.config import FORMAT, Preset, known_keys, load_preset, parse_preset, shipped_presets
from hg3.errors import ConfigError


@pytest.mark.parametrize("name", shipped_presets())
def test_shipped_presets_load_and_come_back(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert parse_preset(preset.to_toml(), "its own text", {}) == preset


def test_the_default_is_shipped() -> None:
    assert "hg3" in shipped_presets()
    assert load_preset("hg3").schedule.allow_terminal_signal is False


def test_a_preset_from_a_file_needs_only_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[network]\nwidth = 48\n')
    preset = load_preset(path)
    assert preset == Preset(name="mine", network={"width": 48})  # type: ignore[arg-type]
    assert load_preset(str(path)).training == Preset(name="x").training


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("network.width", "64", 64),
        ("training.learning_rate", "3e-4", 3e-4),
        ("training.precision", "float32", "float32"),
        ("training.clip", "inf", float("inf")),
        ("schedule.allow_terminal_signal", "true", True),
        ("sampling.solver", "ancestral", "ancestral"),
        ("loss.column_cap", "1", 1.0),
    ],
)
def test_a_change_changes_one_key(key: str, text: str, value: Any) -> None:
    before, after = load_preset("hg3").model_dump(), load_preset("hg3", {key: text}).model_dump()
    part, name = key.split(".")
    assert after[part].pop(name) == value != before[part].pop(name)
    assert before == after


def test_changes_add_up_and_reach_parts_that_a_file_leaves_out() -> None:
    changes = {"network.width": "40", "network.levels": "2", "loss.column_cap": "2"}
    preset = parse_preset('name = "x"', "a text", changes)
    assert (preset.network.width, preset.network.levels, preset.loss.column_cap) == (40, 2, 2.0)


def test_every_key_can_be_changed() -> None:
    preset = load_preset("hg3", {"privacy.epsilon": "8", "privacy.delta": "1e-5"})
    dumped = preset.model_dump()
    assert known_keys() == [f"{part}.{key}" for part, keys in dumped.items() if isinstance(keys, dict) for key in keys]
    for key in known_keys():
        part, name = key.split(".")
        private = {f"privacy.{name}": str(value) for name, value in dumped["privacy"].items()}
        assert load_preset("hg3", {**private, key: str(dumped[part][name])}) == preset


@pytest.mark.parametrize("key", ["network.wide", "width", "name", "format", "network", "netwrok.width", ""])
def test_an_unknown_change_is_named_with_the_known_ones(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set knows no key '{key}'; it knows schedule\.kind, .*network\.width"):
        load_preset("hg3", {key: "1"})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[network]\nwidht = 3", r"network\.widht"),
        ("[netwrok]\nwidth = 3", "netwrok"),
        ("colour = 1", "colour"),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(text: str, where: str) -> None:
    with pytest.raises(ConfigError, match=rf"mine is not usable: {where}: .*; known keys are .*network\.width"):
        parse_preset(f'name = "x"\n{text}', "mine", {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network.width", "7"),
        ("network.width", "many"),
        ("network.width", "64.5"),
        ("network.levels", "0"),
        ("training.batch", "0"),
        ("training.learning_rate", "0"),
        ("training.learning_rate", "nan"),
        ("training.learning_rate", "inf"),
        ("training.weight_decay", "inf"),
        ("training.ema", "1"),
        ("training.clip", "-1"),
        ("training.precision", "int8"),
        ("training.checkpoint_every", "0"),
        ("loss.column_cap", "0.5"),
        ("schedule.kind", "spiral"),
        ("schedule.steps", "1"),
        ("sampling.solver", "euler"),
        ("sampling.steps", "1"),
    ],
)
def test_bad_values_are_named(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"preset hg3 is not usable: {key}: ") as caught:
        load_preset("hg3", {key: value})
    assert "\n" not in str(caught.value)


def test_privacy_is_off_until_it_is_asked_for() -> None:
    assert load_preset("hg3").privacy is None and "privacy" not in load_preset("hg3").to_toml()
    private = load_preset("hg3", {"privacy.epsilon": "8"})
    assert private.privacy is not None and (private.privacy.epsilon, private.privacy.delta) == (8.0, None)
    assert parse_preset(private.to_toml(), "its own text", {}) == private
    assert private.keeps_last and not load_preset("hg3").keeps_last and load_preset("health-gym-v3").keeps_last
    with pytest.raises(ConfigError, match=r"privacy\.epsilon: Field required"):
        load_preset("hg3", {"privacy.clip": "2"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("epsilon", "0"), ("epsilon", "inf"), ("delta", "0"), ("delta", "1"), ("clip", "0"), ("clip", "inf")],
)
def test_privacy_that_is_none_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"privacy\.{key}: Input should be"):
        load_preset("hg3", {"privacy.epsilon": "8", f"privacy.{key}": value})


def test_sampling_takes_no_more_steps_than_the_schedule_has() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.steps 20 is above schedule\.steps 10;"):
        load_preset("hg3", {"schedule.steps": "10"})


@pytest.mark.parametrize("part, other", [("network", "loss"), ("loss", "network")])
def test_a_network_and_the_loss_of_the_other_kind_are_refused(part: str, other: str) -> None:
    eps = {"heads.real": "eps", "heads.category": "eps", "training.condition": "0"}
    with pytest.raises(
        ConfigError, match=rf"{part}\.kind is health-gym-v3.*set both to hg3, or both to health-gym-v3;"
    ):
        load_preset("hg3", {**eps, f"{part}.kind": "health-gym-v3"})
    with pytest.raises(ConfigError, match=rf"{other}\.kind is health-gym-v3"):
        load_preset("health-gym-v3", {f"{part}.kind": "hg3", "training.condition": "0"})


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match="network: width 96 is not a multiple of heads 5;"):
        load_preset("hg3", {"network.heads": "5"})


@pytest.mark.parametrize("changes", [{}, {"network.width": "16"}])
def test_a_part_that_is_no_table_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="network: Input should be a valid dictionary"):
        parse_preset('name = "x"\nnetwork = 3', "mine", changes)


def test_a_newer_format_is_refused() -> None:
    sentence = rf"preset mine has format {FORMAT + 1} and this hg3 reads {FORMAT}; update hg3"
    with pytest.raises(ConfigError, match=sentence):
        parse_preset(f'format = {FORMAT + 1}\nname = "x"\nwhat_is_this = 1', "mine", {})


def test_what_is_no_preset_is_refused(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("name = ")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"broken\.toml is not TOML"):
        load_preset(broken)
    for name in (str(binary), str(tmp_path / "absent.toml"), str(tmp_path), "none", "a\0b"):
        with pytest.raises(ConfigError, match=r"neither a shipped preset \(.*hg3.*\) nor a readable TOML file"):
            load_preset(name)
