"""The benchmark programs run, and what they write can be read."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import (
    arithmetic,
    conditions,
    evaluate,
    fidelity,
    generate,
    levers,
    presets,
    private,
    published,
    real_table,
    reverse_step,
    scale,
    solvers,
    timing,
    train,
)
from benchmarks.compare import compare_release
from benchmarks.machine import last_cache
from benchmarks.stand_in import prepare, untrained_run
from benchmarks.timing import in_turns
from hg3.diffusion.health_gym_v3 import published_losses
from hg3.diffusion.loss import Batch, Draw
from hg3.evaluation.evaluate import STEPS
from hg3.evaluation.gates import load_gates
from hg3.release import writer
from hg3.release.load import load
from hg3.release.plan import open_source
from hg3.sampling.solvers import SOLVERS
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from hg3.table.write import write_table
from hg3.training.checkpoint import best_checkpoint, read_recipe
from tests import runs
from tests.runs import TINY, make_run, options, write_cohort

one_thread = runs.one_thread

SCHEMAS = sorted((Path(real_table.__file__).parent / "schemas").glob("*.toml"))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_schemas_of_real_tables_are_whole(path: Path) -> None:
    schema = load_schema(path)
    assert schema.name == path.stem
    assert any(column.missing == "modelled" for column in schema.columns)


def test_real_table_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = write_cohort(tmp_path), tmp_path / "result.json"
    given = [str(table), "--schema", str(tmp_path / "schema.toml"), *options(), "--updates", "20", "--patients", "30"]
    monkeypatch.setattr(sys, "argv", ["real_table", *given, "--work", str(tmp_path / "work"), "--json", str(out)])
    real_table.main()
    result, said = json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out
    assert result["patients"] == 30
    assert set(result["ks"]) == {"height", "VL", "CD4"}
    for measure in ("tv", "ks"):
        for column, distance in result[measure].items():
            assert f"{column:<18}{measure:<9}{distance:>10.4f}" in said
    assert result["data"]["file"] == "table.parquet" and str(tmp_path) not in json.dumps(result["data"])


def test_presets_are_measured_alike(tmp_path: Path) -> None:
    write_table(simulate(60, seed=0), tmp_path / "cohort.parquet")
    monthly, static = presets.schemas(tmp_path).values()
    assert [load_schema(path).by_name["Gender"].static for path in (monthly, static)] == [False, True]
    result = presets.measure("hg3", tmp_path / "cohort.parquet", static, 2, 5, tmp_path, TINY)
    assert result["updates"] == 2 and result["acceptance"] == 1.0
    assert [result["changing"][name] for name in presets.PERSONAL] == [0.0, 0.0]
    assert result["tv"].keys() == {"Gender", "Ethnic", "Base Drug Combo", "Extra PI", "Extra pk-En"}
    presets.print_table([result])


def test_solvers_are_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out, figure = make_run(tmp_path, updates=10), tmp_path / "solvers.json", tmp_path / "solvers.png"
    monkeypatch.setattr(solvers, "STEPS", (3, 5))
    given = ["--patients", "8", "--work", str(tmp_path / "work"), "--json", str(out), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", ["solvers", str(run), *given])
    solvers.main()
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [(row["solver"], row["steps"]) for row in rows] == [(name, steps) for name in SOLVERS for steps in (3, 5)]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_conditions_are_measured_beside_their_subgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(tmp_path, updates=10), tmp_path / "conditions.json"
    monkeypatch.setattr(conditions, "CONDITIONS", {"everybody": {}, "women": {"where": {"sex": "F"}}})
    given = ["--patients", "8", "--work", str(tmp_path / "work"), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["conditions", str(run), *given])
    conditions.main()
    results, said = json.loads(out.read_text(encoding="utf-8"))["results"], capsys.readouterr().out
    assert results["women"]["holdout_patients"] < results["everybody"]["holdout_patients"]
    for name, result in results.items():
        assert f"{name}: 8 patients beside {result['holdout_patients']} held out" in said


def test_reverse_step_is_set_beside_the_chain_and_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reverse_step.json"
    monkeypatch.setattr(reverse_step, "last_cache", lambda device: 2**16)
    given = ["--patients", "3", "--repeats", "2", "--threads", "1", "--device", "cpu", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["reverse_step", *given])
    reverse_step.main()
    result, said = json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out
    assert result["shape"] == [3, 22, 64] and result["machine"]["threads"] == 1
    assert [row["noise"] for row in result["chain"]] == [True] * 3 + [False] * 6
    assert {row["solver"] for row in result["copy"]} == {"ddim", "dpm++"}  # the rows without noise
    for row in result["chain"] + result["copy"]:
        assert {"first_ms", "min_ms", "median_ms"} == row["sides"]["fused"].keys()
    for row in result["copy"]:
        assert row["megabytes"] * 1e6 >= 4 * 2**16
        tensors = 5 if row["solver"] == "dpm++" else 3
        wide = tensors - (0.5 if row["raw"] == "bfloat16" else 0)
        assert row["megabytes"] * 1e6 == wide * 4 * 22 * 64 * row["patients"]
    assert [row["solver"] for row in result["copy"] if row["columns"] == "reals"] == ["ddim", "dpm++"]
    beside_chain, *beside_copy = result["targets"]
    assert beside_chain["figure"] == result["ratio"] and beside_chain["target"] == 4.0
    assert {row["target"] for row in beside_copy[1:]} == {0.6} and len(beside_copy) == 5
    for row in result["targets"]:
        assert row["met"] == (row["figure"] >= row["target"]) and row["what"] in said


def test_a_step_of_reals_alone_has_no_category() -> None:
    state = reverse_step.State(("ddim", *reverse_step.RAW[0]), 2, torch.device("cpu"), reals_only=True)
    assert {block.kind for block in state.blocks} == {"real"} and state.x.shape == (2, 22, 64)
    reverse_step.operator(state, reverse_step.ops.reverse_step_)()
    assert bool(torch.isfinite(state.x).all())


def test_the_two_sides_of_a_reverse_step_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for case in (("ancestral", *reverse_step.RAW[0]), ("dpm++", *reverse_step.RAW[2])):
        reverse_step.check_agreement(case, cpu)
    monkeypatch.setattr(reverse_step, "operator", lambda state, step: lambda: state.x.add_(1))
    with pytest.raises(AssertionError):
        reverse_step.check_agreement(("ddim", *reverse_step.RAW[0]), cpu)


def test_the_last_cache_is_read_from_the_machine() -> None:
    size = last_cache(torch.device("cpu"))
    assert size is None or 2**20 <= size < 2**34


def call(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """Run a program with `arguments`, the last of which is the JSON that it writes; return that."""
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments)])
    program.main()
    return json.loads(Path(str(arguments[-1])).read_text(encoding="utf-8"))


def test_sides_are_called_in_turns_after_a_first_call_each() -> None:
    called: list[str] = []
    timed = in_turns({name: lambda name=name: called.append(name) for name in "ab"}, repeats=2)  # type: ignore[misc]
    assert called == list("ab" * 3)
    assert all(side.seconds > 0 and side.first > 0 for side in timed.values())


SPEED = ("--width", "16", "--cohort", "60")


def tiny_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the speed programs measure in sizes that take no time."""
    monkeypatch.setattr(levers, "BLOCKS", {"cpu": (4, 8)})
    monkeypatch.setattr(arithmetic, "MATMUL", {"cpu": 32})


SIZES = ("--block", 8, "--batch", 4, "--published-steps", 2, "--lever-steps", 2, "--repeats", 1)


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_generation_is_measured_beside_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_speed(monkeypatch)
    files = ("--work", tmp_path / "work", "--json", tmp_path / "generate.json")
    found = call(generate, monkeypatch, *SPEED, *SIZES, "--steps", 4, 3, "--acceptance", 0.5, *files)
    theirs, (ours, fewer) = found["published"], found["hg3"]
    assert found["width"] == [16, 16] and theirs["steps"] == 500 and (ours["steps"], fewer["steps"]) == (4, 3)
    # the figures are rounded as they are written
    assert theirs["accepted_per_s"] == pytest.approx(0.5 * theirs["patients_per_s"], abs=1e-4)
    assert 1 / theirs["patients_per_s"] > 500 * theirs["seconds_a_step"] / 4 * 0.99
    for row in (ours, fewer):
        assert row["ratio"] == pytest.approx(row["accepted_per_s"] / theirs["accepted_per_s"], rel=0.01)
        assert row["ratio"] == pytest.approx(2 * row["ratio_without_acceptance"], abs=0.2)
        share = theirs["acceptance_as_we_trained_it"]["acceptance"]
        assert row["ratio_as_we_trained_it"] == pytest.approx(row["ratio"] * 0.5 / share, abs=0.2)
        work = row["accepted_per_s"] * row["steps"] * found["mflop"]["hg3"] / 1e3
        assert row["gflop_per_s"] == pytest.approx(work, abs=0.06)
    assert found["ratio"] == ours["ratio"] and found["machine"]["threads"] == 1
    assert found["chains"] > 0  # as the verb train fits them
    names = {row["lever"] for row in found["levers"]}
    assert {"nothing rejected, by count", "fused reverse step", "bfloat16", "blocks of 8, not 4"} <= names
    assert {levers.CHAINS, levers.CHANNELS_LAST, "no padding to 100 times"} <= names
    assert all(row.get("times", 1) > 0 for row in found["levers"])
    assert {"convolutions", "chains", "layer norms", "reverse step", "decoding"} <= found["parts_of_a_block"].keys()
    assert sum(found["parts_of_a_block"].values()) == pytest.approx(1, abs=0.002)
    assert len(found["rates"]["gflop_per_s"]) == 5 and all(rate > 0 for rate in found["rates"]["gflop_per_s"].values())
    assert len(found["data"]["sha256"]) == 64 and found["run"]["update"] == 1
    assert "tv" not in ours and str(tmp_path) not in json.dumps(found)


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_fidelity_stands_beside_the_speed_of_a_trained_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_speed(monkeypatch)
    run = untrained_run("hg3", {"network.width": "32"}, tmp_path / "work", 60)
    given = ("--run", run, "--fidelity-patients", 8, "--cohort", 60, *SIZES, "--steps", 4, 3)
    files = ("--work", tmp_path / "work", "--json", tmp_path / "generate.json")
    found = call(generate, monkeypatch, *given, *files)
    assert found["width"] == [32, 32] and found["hg3_weights"] == "trained"  # both of the run's width
    said = capsys.readouterr().out
    for row in found["hg3"]:
        (release,) = (tmp_path / "work").glob(f"fidelity-*-8/dpm++-{row['steps']}")
        scores = compare_release(release, run)
        for key in ("tv", "ks"):
            assert row[key] == pytest.approx(np.mean(list(scores[key].values())), abs=1e-4)
            assert row[f"{key}_ceiling"] > 0 and f"{row[key]:.4f}" in said
    assert found["hg3"][0]["tv"] != found["hg3"][1]["tv"]


def test_targets_are_those_of_the_device_that_was_measured() -> None:
    rows = [{"steps": 20, "ratio": 160.0}, {"steps": 15, "ratio": 190.0}]
    assert generate.targets(rows, "cpu", "float32") == []
    assert [row["met"] for row in generate.targets(rows, "cpu", "bfloat16")] == [True, False]
    (on_a_gpu,) = generate.targets(rows, "cuda", "bfloat16")
    assert (on_a_gpu["figure"], on_a_gpu["target"], on_a_gpu["met"]) == (160.0, 1000, False)


def test_a_run_for_speed_is_that_of_its_width_and_cohort(tmp_path: Path) -> None:
    """It has the chains that a training has, and another one is not taken for it."""
    run = untrained_run("hg3", {"network.width": "16"}, tmp_path, 60)
    other = untrained_run("hg3", {"network.width": "24"}, tmp_path, 60)
    widths = [read_recipe(best_checkpoint(r)).preset.network.width for r in (run, other)]
    assert widths == [16, 24] and untrained_run("hg3", {"network.width": "16"}, tmp_path, 60) == run
    layout = read_recipe(best_checkpoint(run)).encoder.layout
    assert layout.chains and layout.static_chains
    assert prepare("hg3", {"training.batch": "8"}, tmp_path, 60).recipe.encoder.layout == layout


def test_arithmetic_of_the_chains_is_counted(tmp_path: Path) -> None:
    source = open_source(untrained_run("hg3", {"network.width": "16"}, tmp_path, 60), torch.device("cpu"))
    states = [len(chain.states) for chain in source.recipe.encoder.layout.chains]
    whole = arithmetic.network_megaflop(source)
    messages = sum(2 * 2 * 59 * n * n for n in states) / 1e6  # both directions, 59 products, a sum counts as one
    assert arithmetic.chain_flop((60, 1, states[0]), (), ()) / 1e6 <= messages < whole
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(arithmetic, "chain_flop", lambda *_, **__: 0)
        assert whole - arithmetic.network_megaflop(source) == pytest.approx(messages, abs=0.11)  # both are rounded


def test_convolutions_of_both_memory_formats_agree(tmp_path: Path) -> None:
    """The lever compares like with like, at odd lengths too."""
    source = open_source(untrained_run("hg3", {"network.width": "16"}, tmp_path, 60), torch.device("cpu"))
    for parameter in source.network.parameters():  # those that begin as zero, too
        torch.nn.init.normal_(parameter, std=0.1)
    layout, found = source.recipe.encoder.layout, []
    given = (torch.zeros(3, layout.n_static), torch.randn(3, layout.n_dynamic, 59), torch.tensor([7]))
    nobody = torch.zeros(3, len(layout.static), dtype=torch.bool)

    def run() -> None:
        with torch.inference_mode():
            found.append(source.network(*given, nobody)[1])

    run()
    levers.plain_convolutions(run)()
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_time_counts_for_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100, 10))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(now))
    parts = timing.Parts()
    inner = parts.function("inner", lambda: None)
    parts.function("outer", lambda: (inner(), inner()))()
    # 0 outer begins, 10-20 and 30-40 inner, 50 outer ends
    assert parts.seconds == {"outer": 30, "inner": 20} and parts.shares() == {"outer": 0.6, "inner": 0.4}


def test_time_of_a_module_is_its_own() -> None:
    network, parts = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.SiLU()), timing.Parts()
    parts.modules(network, {"Sequential": "all", "Linear": "maps", "SiLU": "activations"})
    network(torch.zeros(1, 2))
    assert parts.seconds.keys() == {"all", "maps", "activations"}


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_published_sampler_takes_the_steps_of_the_preset(tmp_path: Path) -> None:
    """Its mean is that of the preset's own table: without noise, both make the same step."""
    source = open_source(untrained_run("health-gym-v3", {"network.width": "16"}, tmp_path, 60), torch.device("cpu"))
    x, schedule = torch.randn(3, 22, 100), source.recipe.build_schedule()
    with pytest.MonkeyPatch.context() as patched, torch.inference_mode():
        patched.setattr(torch, "randn_like", torch.zeros_like)
        actual = published.noise_and_reverse(source.network, schedule, x, 2)  # type: ignore[arg-type]
        table = source.table("ancestral-beta", 500, None)
        for t, (signal, noise, a, b0, *_) in zip(table.times[:2], table.rows[:2], strict=True):
            _, eps = source.network(torch.zeros(3, 0), x, torch.full((3,), t), torch.zeros(3, 0))
            x = float(a) * x + float(b0) * (x - float(noise) * eps) / float(signal)
    torch.testing.assert_close(actual, x, rtol=1e-4, atol=1e-4)  # float32, in two orders


def test_published_filter_keeps_patients_inside_the_training_range() -> None:
    x = torch.zeros(4, 22, 60)
    x[1, 0, 3], x[2, 1, 59], x[3, 2, 0] = 1.01, -1.01, 5.0  # VL, CD4, a code
    assert published.in_range(x).tolist() == [True, False, False, True]


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_training_is_measured_beside_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_speed(monkeypatch)
    monkeypatch.setattr(train, "BATCHES", (8, 36, 64))
    monkeypatch.setattr(train, "compiled", lambda trainer: trainer)  # is slow, and has a test of its own
    files = ("--work", tmp_path / "work", "--json", tmp_path / "train.json")
    found = call(train, monkeypatch, *SPEED, "--repeats", 1, *files)
    assert found["batch"] == 36 and found["width"] == 16 and found["chains"] > 0  # of 60 patients, 36 are learnt from
    assert found["ratio"] == pytest.approx(found["hg3"] / found["published"], abs=0.01)
    assert found["patients_per_s_by_batch"].keys() == {"8", "36"}
    names = {row["lever"] for row in found["levers"]}
    assert {"fused Adam", "no padding to 100 times", levers.CHAINS, levers.CHANNELS_LAST} <= names
    assert any(name.startswith("compiled network") for name in names)
    assert all(row["times"] > 0 for row in found["levers"])
    (target,) = found["targets"]
    assert target["figure"] == found["ratio"] and target["target"] == 3 and target["met"] == (found["ratio"] >= 3)
    assert {"forwards, with the loss", "backwards", "Adam", "running average"} <= found["parts_of_an_update"].keys()
    for name in ("published", "hg3"):
        assert found["gflop_per_s"][name] == pytest.approx(found["mflop"][name] * found[name] / 1e3, abs=0.06)
    assert len(found["data"]["sha256"]) == 64 and str(tmp_path) not in json.dumps(found)


def test_training_without_a_lever_is_another_training(tmp_path: Path) -> None:
    prepared = prepare("hg3", {"network.width": "16", "training.batch": "8"}, tmp_path, 60)
    cpu = torch.device("cpu")
    longer = train.our_trainer(train.padded(prepared), cpu)
    assert longer.train.x_dynamic.shape[2] == 100 and not longer.train.observed_dynamic[:, :, 60:].any()
    untold = train.untold(train.our_trainer(prepared, cpu))
    usual = train.our_trainer(prepared, cpu)
    losses = [trainer.step()["loss"] for trainer in (usual, untold, longer)]
    assert len(set(losses)) == 3 and all(np.isfinite(losses))
    assert train.our_trainer(train.changed(prepared, batch=4), cpu).recipe.preset.training.batch == 4


@pytest.mark.slow
def test_a_compiled_update_is_the_same_update(tmp_path: Path) -> None:
    prepared = prepare("hg3", {"network.width": "16", "training.batch": "8"}, tmp_path, 60)
    usual, compiled = (train.our_trainer(prepared, torch.device("cpu")) for _ in range(2))
    train.compiled(compiled)
    for _ in range(2):
        assert compiled.step()["loss"] == pytest.approx(usual.step()["loss"], rel=1e-3)


def test_what_privacy_costs_is_measured_beside_the_usual_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opacus")
    sides = {name: side for name, side in private.SIDES.items() if name in ("not private", "epsilon 8")}
    monkeypatch.setattr(private, "SIDES", sides)
    sizes = ("--cohort", 60, "--width", 8, "--batch", 12, "--updates", 2, "--patients", 10)
    found = call(private, monkeypatch, *sizes, "--work", tmp_path / "work", "--json", tmp_path / "private.json")
    usual, noised = found["results"]["not private"], found["results"]["epsilon 8"]
    assert "epsilon" not in usual and 7.9 < noised["epsilon"] <= 8.0
    assert noised["sample_rate"] == 12 / 36 and noised["noise_multiplier"] > 0.3
    for result in (usual, noised):
        assert result["mean"]["tv"] == pytest.approx(np.mean(list(result["tv"].values())), abs=1e-4)
        assert result["mean"]["ks"] == pytest.approx(np.mean(list(result["ks"].values())), abs=1e-4)
    assert found["updates"] == 2 and str(tmp_path) not in json.dumps(found)


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_published_update_is_on_the_published_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss that it returns is that of the preset for the same times, noise and blend, and weights move by Adam."""
    recipe = prepare("health-gym-v3", {"network.width": "16", "training.batch": "8"}, tmp_path, 60).recipe
    torch.manual_seed(0)
    network, schedule = recipe.build_network(), recipe.build_schedule()
    x_0, eps, blend, t = torch.randn(8, 22, 100), torch.randn(8, 22, 100), torch.rand(8, 22, 100), torch.arange(8) * 60
    batch = Batch(torch.zeros(8, 0), x_0, torch.ones(8, 0).bool(), torch.ones(8, 7, 60).bool())
    noise = Draw(t, torch.zeros(8, 0), eps, torch.zeros(8, 0).bool())
    wanted = sum(published_losses(network, batch, noise, blend, schedule, 60)).item()  # type: ignore[union-attr]
    before = [parameter.detach().clone() for parameter in network.parameters()]
    update = published.make_update(network, schedule, 60)  # type: ignore[arg-type]
    for name, value in (("randint", t), ("randn_like", eps), ("rand_like", blend)):
        monkeypatch.setattr(torch, name, lambda *_, value=value, **__: value)
    assert update(x_0) == pytest.approx(wanted, rel=1e-5)
    moved = torch.cat([(p - b).abs().flatten() for p, b in zip(network.parameters(), before, strict=True)])
    assert moved.max().item() == pytest.approx(
        1e-3, rel=0.01
    )  # the first step of Adam is its rate, whatever the gradient


def test_one_release_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((writer, "sample_patients"), (writer, "decode_counted"), (pq.ParquetWriter, "write_table")):
        monkeypatch.setattr(place, name, getattr(place, name))  # put back what the program wraps
    run = untrained_run("hg3", {"network.width": "16"}, tmp_path / "work", 60)
    row = scale.one_size(run, tmp_path / "release", 600, steps=2, compile="none")
    assert row["patients"] == 600 == load(tmp_path / "release").iloc[:, 0].nunique()
    assert row["share"].keys() == {"network", "decoding", "writing"} and 0.1 < sum(row["share"].values()) < 1
    assert row["steady_per_s"] > 0 and row["peak_mib"] > 100  # torch alone takes that


@pytest.mark.slow
def test_releases_of_growing_size_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("--work", tmp_path / "work", "--json", tmp_path / "scale.json")
    found = call(scale, monkeypatch, *SPEED, "--sizes", 512, 1024, "--steps", 2, *files)
    small, large = found["sizes"]
    assert (small["patients"], large["patients"]) == (512, 1024)
    for row in found["sizes"]:
        assert row["share"].keys() == {"network", "decoding", "writing"} and 0 < sum(row["share"].values()) <= 1
        assert row["peak_mib"] > 100  # torch alone takes that
        assert row["fixed_s"] == pytest.approx(row["seconds"] - row["patients"] / row["steady_per_s"], abs=0.1)
    assert 0 < found["ratio"] <= 1 and found["width"] == 16
    assert len(found["targets"]) == 3 and len(found["data"]["sha256"]) == 64
    assert not list((tmp_path / "work").glob("release-*"))


def test_sizes_that_were_measured_are_written_when_a_later_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(run: Path, patients: int, given: Any) -> dict[str, Any]:
        if patients == 3000:
            raise KeyboardInterrupt
        share = {"network": 0.9, "decoding": 0.01, "writing": 0.009}
        return {"patients": patients, "steady_per_s": 100.0 + patients / 100, "peak_mib": 400.0, "share": share}

    monkeypatch.setattr(scale, "in_fresh_process", measured)
    files = ("--work", tmp_path / "work", "--json", tmp_path / "scale.json")
    with pytest.raises(KeyboardInterrupt):
        call(scale, monkeypatch, *SPEED, "--sizes", 1000, 2000, 3000, *files)
    found = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert [row["patients"] for row in found["sizes"]] == [1000, 2000]
    assert found["ratio"] == pytest.approx(110 / 120, abs=1e-4) and found["memory_ratio"] == 1.0
    assert [(row["figure"], row["met"]) for row in found["targets"]] == [(0.01, True), (0.9167, True), (1.0, True)]


def test_one_size_has_no_ratio() -> None:
    row = {"steady_per_s": 1.0, "peak_mib": 2.0, "share": {"network": 0.1, "writing": 0.2}}
    found = scale.summary([row])
    assert found["ratio"] is None and [(t["figure"], t["met"]) for t in found["targets"]] == [(2.0, False)]


def test_an_evaluation_is_timed_from_tables_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hg3.evaluation.evaluate.STEPS", STEPS[:2])
    sizes = ("--made", 30, "--real", 20)
    found = call(evaluate, monkeypatch, *sizes, "--work", tmp_path / "work", "--json", tmp_path / "evaluate.json")
    assert found["patients"] == {"made": 30, "train": 20, "holdout": 20}
    assert list(found["seconds_by_section"]) == [step.name for step in STEPS[:2]]
    assert sum(found["seconds_by_section"].values()) < found["seconds"] + 0.1 and found["measures"] > 50
    assert found["peak_mib"] >= found["peak_before_mib"] > 100  # torch alone takes that
    assert (tmp_path / "work" / "report" / "report.html").is_file() and str(tmp_path) not in json.dumps(found)


def test_fidelity_makes_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path)
    monkeypatch.setattr(
        fidelity, "SOURCES", {"tiny": fidelity.Source("table.parquet", str(tmp_path / "schema.toml"), 12)}
    )
    given = ["--real", str(tmp_path), "--minutes", "0.01", "--work", str(tmp_path / "work"), "--seeds", "0", *options()]
    monkeypatch.setattr(sys, "argv", ["fidelity", *given, "--results", str(tmp_path / "results")])
    fidelity.main()
    result = json.loads((tmp_path / "results" / "tiny-hg3-0.json").read_text())
    assert result["data"]["file"] == "table.parquet" and result["patients"]["made"] == 12
    assert {"measures", "verdicts", "seconds", "training", "machine"} <= result.keys()
    assert "| TV of categories |" in (tmp_path / "results" / "table.md").read_text()
    assert result["held"] == "holdout" and result["changes"] == [word for word in options() if "=" in word]
    assert (tmp_path / "results" / "tiny-hg3-0.html").is_file()
    monkeypatch.setattr(fidelity, "train", None)  # a second call makes no row again
    capsys.readouterr()
    fidelity.main()
    assert "tiny, hg3" in capsys.readouterr().out
    monkeypatch.setattr(fidelity, "measures_sum", lambda: "of other measures")
    with pytest.raises(TypeError):  # it is made anew, for which there is no training now
        fidelity.main()


def test_an_ablation_is_compared_with_validation_patients() -> None:
    assert {fidelity.held_of(fidelity.Row("art", name, 0)) for name in ("hg3", "par", *fidelity.PUBLISHED)} == {
        "holdout"
    }
    assert fidelity.held_of(fidelity.Row("art", "wider", 0)) == "validation"


def test_the_goals_are_gates_with_measures_that_there_are() -> None:
    goals = load_gates(fidelity.GOALS).gates
    known = {name for gate in load_gates().gates for name in gate.measures}
    assert {name for gate in goals for name in gate.measures} <= known


def test_the_sheet_tells_what_did_not_finish_and_what_seeds_disagree_on(tmp_path: Path) -> None:
    verdict = {"name": "sex", "score": 0.1, "ceiling": 0.05, "state": "met"}
    rows = {
        "a-hg3-0": {"table": "a", "generator": "hg3", "training": {}, "verdicts": [verdict]},
        "a-hg3-1": {"table": "a", "generator": "hg3", "training": {}, "verdicts": [{**verdict, "state": "missed"}]},
        "a-par-0": {"table": "a", "generator": "par", "training": {"did_not_finish": "TimeoutExpired"}},
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert "| sex | 0.100 (0.050) met/missed | did not finish |" in fidelity.sheet(tmp_path)
