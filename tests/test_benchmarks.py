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
    train,
)
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
        assert f"{row['ratio']:.2f}, target" in said or not row["noise"]
    for row in result["copy"]:
        assert row["megabytes"] * 1e6 >= 4 * 2**16
        tensors = 5 if row["solver"] == "dpm++" else 3
        wide = tensors - (0.5 if row["raw"] == "bfloat16" else 0)
        assert row["megabytes"] * 1e6 == wide * 4 * 22 * 64 * row["patients"]


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


@pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")
def test_generation_is_measured_beside_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levers, "BLOCKS", (4, 8))
    sizes = ("--block", 8, "--batch", 4, "--published-steps", 2, "--lever-steps", 2, "--repeats", 1)
    files = ("--work", tmp_path / "work", "--json", tmp_path / "generate.json")
    found = call(generate, monkeypatch, *SPEED, *sizes, "--steps", 4, 3, "--acceptance", 0.5, *files)
    theirs, (ours, fewer) = found["published"], found["hg3"]
    assert found["width"] == [16, 16] and theirs["steps"] == 500 and (ours["steps"], fewer["steps"]) == (4, 3)
    # the figures are rounded as they are written
    assert theirs["accepted_per_s"] == pytest.approx(0.5 * theirs["patients_per_s"], abs=1e-4)
    assert 1 / theirs["patients_per_s"] > 500 * theirs["seconds_a_step"] / 4 * 0.99
    for row in (ours, fewer):
        assert row["ratio"] == pytest.approx(row["accepted_per_s"] / theirs["accepted_per_s"], rel=0.01)
        assert row["ratio"] == pytest.approx(2 * row["ratio_without_acceptance"], abs=0.2)
    assert found["ratio"] == ours["ratio"] and found["machine"]["threads"] == 1
    names = {row["lever"] for row in found["levers"]}
    assert {"nothing rejected", "fused reverse step", "bfloat16", "blocks of 8, not 4"} <= names
    assert all(row.get("times", 1) > 0 for row in found["levers"])
    assert str(tmp_path) not in json.dumps(found)


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
    monkeypatch.setattr(train, "BATCHES", (8, 36, 64))
    files = ("--work", tmp_path / "work", "--json", tmp_path / "train.json")
    found = call(train, monkeypatch, *SPEED, "--repeats", 1, *files)
    assert found["batch"] == 36 and found["width"] == 16  # of 60 patients, 36 are learnt from
    assert found["ratio"] == pytest.approx(found["hg3"] / found["published"], abs=0.01)
    assert found["patients_per_s_by_batch"].keys() == {"8", "36"}
    assert all(times > 0 for times in found["levers"].values())


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
    assert not list((tmp_path / "work").glob("release-*"))


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
