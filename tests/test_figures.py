"""Every figure of docs/performance.md, and the tables of benchmarks/README.md, are what the results say.

A test builds the lines anew from the JSON files: where one fails, it shows the line as it must stand on the page.
"""

import json
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from benchmarks import generate, reverse_step, scale, train

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"(?<![\w.])[.]?\d[\d,.]*\d%?|(?<![\w.])\d%?")
# Figures of the page that nobody measured: sizes of a network, of a table; how a number is written.
FIXED = (
    "and 3 levels",
    "after 3,000 epochs",
    "at 60 times",
    "at 100, as torch counts them",
    "(95th percentiles)",
    "as near to 1 as",
    "A block is 256 patients",
    "A block of 256 patients",
    "has no 0.1,",
    "20 of the 22 channels",
)
STEPS = {"ancestral": "with noise (ancestral)", "ddim": "without (DDIM)"}
STEPS |= {"dpm++": "without, with history (DPM-Solver++)"}


def result(name: str) -> dict[str, Any]:
    """Return a file of benchmarks/results."""
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return content


def page(name: str) -> str:
    """Return a page without line breaks and bold type."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").replace("**", "").split())


def stand_there(quotes: list[str], text: str) -> None:
    missing = [quote for quote in quotes if quote not in text]
    assert not missing, "\n".join(("the page must say", *missing))


def bare(value: float, decimals: int = 3) -> str:
    """Return a number below 1 as the tables write it, .041; a half is rounded up."""
    rounded = Decimal(repr(value)).quantize(Decimal(10) ** -decimals, ROUND_HALF_UP)
    return str(rounded).removeprefix("0")


def mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def lever_rows(levers: list[dict[str, Any]] | dict[str, float]) -> Iterator[str]:
    old = [] if isinstance(levers, list) else [{"lever": name, "times": times} for name, times in levers.items()]
    rows: list[dict[str, Any]] = levers if isinstance(levers, list) else old
    for row in rows:
        known = [f"{row[key]:.2f}" for key in ("times", "times_of_medians") if key in row]
        yield f"| {row['lever']} | {' | '.join(known or [row['skipped']])} |"


def more_rows(content: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of targets, parts and rates; an older result has none."""
    for row in content["targets"] if isinstance(content.get("targets"), list) else ():
        yield f"| {row['what']} | {row['figure']:.4g} | {row['target']:g} | {'met' if row['met'] else 'missed'} |"
    for key in ("parts_of_a_block", "parts_of_an_update"):
        yield from (f"| {part} | {share:.1%} |" for part, share in content.get(key, {}).items())
    yield from (f"| {what} | {rate:.0f} |" for what, rate in content.get("rates", {}).get("gflop_per_s", {}).items())


def of_a_patient() -> Iterator[str]:
    found, presets = result("generate"), result("presets")
    peer, mflop = found["published"], found["mflop"]
    trained = next(row for row in presets["results"] if row["preset"] == "health-gym-v3")
    ours = peer["patients_per_s"] * trained["acceptance"]
    yield f"both at width {found['width'][1]}"
    yield f"{peer['acceptance']:.1%} by the notebook"
    yield f"{trained['acceptance']:.1%} after our training of it ({trained['updates']:,} updates, "
    yield f"{presets['patients']} patients, `presets.json`)"
    yield f"| at our {trained['acceptance']:.1%} |"
    theirs = f"{peer['accepted_per_s']:.2f}, or {ours:.2f} at our {trained['acceptance']:.1%}"
    yield f"| published: {peer['steps']} steps, length 100 | {theirs} | 1 | 1 | 1 |"
    for row in found["hg3"]:
        ratios = (row["ratio"], row["accepted_per_s"] / ours, row["ratio_without_acceptance"])
        cells = [f"{row['accepted_per_s']:.1f}", *(f"{ratio:.0f}" for ratio in ratios)]
        cells += [bare(row[key], 4) for key in generate.FIDELITY if key in row]
        yield f"| hg3, {row['steps']} steps | {' | '.join(cells)} |"
    goals = [f"{ratio} at {steps}" for steps, ratio in generate.TARGETS["cpu"].items()]
    yield f"The goals, {goals[0]} steps and {goals[1]}, are set for a CPU with bfloat16"
    yield from lever_rows(found["levers"])
    yield f"{mflop['hg3']:.0f} MFLOP of hg3's network"
    yield f"{mflop['published']:.0f} MFLOP of the published one"
    speeds = [mflop["hg3"] * row["steps"] * row["accepted_per_s"] / 1e3 for row in found["hg3"]]
    yield f"{speeds[0]:.0f} and {speeds[1]:.0f} GFLOP/s of hg3"
    yield f"and {mflop['published'] * peer['steps'] * peer['patients_per_s'] / 1e3:.0f} of the published code"
    yield from more_rows(found)


def of_solvers() -> Iterator[str]:
    found, presets = result("solvers"), result("presets")
    wide = next(row for row in presets["results"] if row["preset"] == "hg3")
    yield f"after {found['run']['update']:,} updates on the stand-in cohort, {found['patients']} patients;"
    keys = ("tv", "tv_ceiling", "ks", "ks_ceiling")
    for row in found["rows"]:
        if row["solver"] == "dpm++" and row["steps"] in (15, 20):
            yield f"| `dpm++`, {row['steps']} steps | {' | '.join(bare(row[key], 4) for key in keys)} |"
    yield f"| `dpm++`, 20 steps, width 256 | {' | '.join(bare(mean(wide[key]), 4) for key in keys)} |"
    yield "the network of width 256 in `presets.json`"
    yield f"after {wide['updates']:,} updates, of seven columns and {presets['patients']} patients"


def of_releases() -> Iterator[str]:
    found = result("scale")
    yield f"`benchmarks.scale`, width {found['width']}, {found['steps']} steps"
    for row in found["sizes"]:
        shares = " | ".join(f"{share:.1%}" for share in row["share"].values())
        speed = f"{row['steady_per_s']:.0f} | {row['fixed_s']:.1f} s | {row['peak_mib']:.0f} MiB"
        yield f"| {row['patients']:,} | {speed} | {shares} |"
    least = scale.TARGETS["ratio"]
    yield f"at {found['ratio']:.0%} of the fastest (goal: {least:.0%}, which is within {1 - least:.0%})"
    yield f"{found['memory_ratio']:.3f} times the smallest (goal: {scale.TARGETS['memory_ratio']})"
    yield from more_rows(found)


def of_steps() -> Iterator[str]:
    found, goals = result("reverse_step"), reverse_step.TARGETS["cpu"]
    patients, channels, length = found["shape"]
    yield f"{patients:,} patients, {channels} channels, {length} times"
    for row in found["chain"]:
        if (row["raw"], row["memory"]) == reverse_step.RAW[0]:
            times = " | ".join(f"{row['sides'][side]['min_ms']:.1f} ms" for side in ("fused", "eager"))
            goal = f", goal {goals['ratio']:.0f}" if row["noise"] else ""
            yield f"| {STEPS[row['solver']]} | {times} | {row['ratio']:.2f}{goal} |"
    yield f"The goal is {goals['copy']:.0%}:"
    for row in found["copy"]:
        only = ", reals alone" if row.get("columns") == "reals" else ""
        speeds = " | ".join(f"{row['gb_per_s'][side]:.1f}" for side in ("fused", "copy"))
        yield f"| {row['solver']}, {row['raw']}, {row['memory']}{only} | {speeds} | {row['ratio']:.0%} |"
    yield from more_rows(found)


def of_trainings() -> Iterator[str]:
    found, mflop = result("train"), result("generate")["mflop"]
    forwards = {side: 3 * mflop[side] * found[side] / 1e3 for side in mflop}
    speed, goal = found.get("gflop_per_s", forwards), train.TARGETS["cpu"]
    yield f"`benchmarks.train`, width {found['width']}, batch {found['batch']}:"
    yield f"makes {found['published']:.0f} patients a second, hg3's {found['hg3']:.0f}:"
    yield f"{found['ratio']:.2f} times, where the goal is {goal}"
    yield f"runs at {speed['published']:.0f} GFLOP/s and hg3's at {speed['hg3']:.0f}"
    yield f"three times would need {goal * found['published'] * speed['hg3'] / found['hg3']:.0f} GFLOP/s"
    yield from lever_rows(found["levers"])
    yield from more_rows(found)


def on_a_gpu() -> Iterator[str]:
    """Yield the goals that nothing was measured for."""
    ((steps, ratio),) = generate.TARGETS["cuda"].items()
    step, sizes = reverse_step.TARGETS["cuda"], scale.SIZES["cuda"]
    yield f"at {steps} steps, times the published code's on the same GPU | {ratio:,} |"
    yield f"times the published loop's | {train.TARGETS['cuda']} |"
    yield f"{reverse_step.PATIENTS['cuda'][0]:,} patients and more, share of a copy's speed | {step['copy']:.0%} |"
    yield f"the same with noise | {step['copy_with_noise']:.0%} |"
    yield f"from {sizes[0]:,} to {sizes[-1]:,} patients"
    yield f"slowest steady speed beside the fastest | {scale.TARGETS['ratio']:.0%} |"


def test_every_figure_of_the_performance_page_is_a_result() -> None:
    text = page("docs/performance.md")
    parts = (of_a_patient, of_solvers, of_releases, of_steps, of_trainings, on_a_gpu)
    quotes = [quote for part in parts for quote in part()]
    stand_there(quotes, text)
    for quote in sorted([*quotes, *FIXED], key=len, reverse=True):
        text = text.replace(quote, " ")
    assert FIGURE.findall(text) == []  # of no result


def test_a_figure_of_no_result_is_found() -> None:
    said = "float32 on sm_80, AVX2: 12 of 1,024, 3.5 ms, .014 or 61%; (95th) 7."
    assert FIGURE.findall(said) == ["12", "1,024", "3.5", ".014", "61%", "95", "7"]


def test_tables_of_the_benchmarks_page_are_the_results() -> None:
    text = page("benchmarks/README.md")
    rows = [*of_a_real_table(), *of_conditions(), *of_privacy(), *of_presets()]
    stand_there(rows, text)


def of_a_real_table() -> Iterator[str]:
    found = result("renal_monthly")
    names = {"proteinuria": "proteinuria", "failure": "failure (static)", "gender": "sex (static)", "gfr": "gfr"}
    names |= {"haematocrit": "haematocrit", "fuyears": "follow-up (static)", "weight": "weight (static)"}
    names |= {"age": "age (static)"}
    for measure in ("tv", "ks"):
        for column, distance in found[measure].items():
            cells = [measure.upper(), bare(distance), bare(found[f"{measure}_ceiling"][column])]
            cells += [bare(found[key][column]) for key in ("missing", "missing_real") if column in found[key]]
            yield f"| {names[column]} | {' | '.join(cells)} |"
    yield f"| record length | KS | {bare(found['length_ks'])} | {bare(found['length_ks_ceiling'])} |"
    yield f"| months without a row | share | {bare(found['gap_share'])} | {bare(found['gap_share_real'])} (real) |"


def of_conditions() -> Iterator[str]:
    columns = {"Ethnic": "tv", "Base Drug Combo": "tv", "VL": "ks", "CD4": "ks"}
    for row in result("conditions")["results"].values():
        scores = [(row[measure][name], row[f"{measure}_ceiling"][name]) for name, measure in columns.items()]
        cells = [f"{bare(score)} ({bare(ceiling)})" if ceiling else "given" for score, ceiling in scores]
        yield f"| {row['holdout_patients']:,} | {' | '.join(cells)} |"


def of_privacy() -> Iterator[str]:
    found = result("private")["results"]
    names = {"not private": "not private", "no noise": "private, no noise to speak of", "epsilon 8": "epsilon 8"}
    names |= {"epsilon 1": "epsilon 1", "epsilon 8, x4": "epsilon 8, 2,400 to learn from"}
    names |= {"epsilon 1, x4": "epsilon 1, 2,400 to learn from"}
    for name, row in found.items():
        noise = f"{row['noise_multiplier']:.2f} " if "noise_multiplier" in row else ""
        scores = " | ".join(bare(row["mean"][key]) for key in ("tv", "tv_ceiling", "ks", "ks_ceiling"))
        yield f"| {names[name]} | {noise}| {scores} |"
    usual = found["not private"]["training_s"]
    times = [row["training_s"] / usual for name, row in found.items() if name != "not private"]
    yield f"took {min(times):.1f} to {max(times):.1f} times one that is not private"


def of_presets() -> Iterator[str]:
    published, ours = result("presets")["results"]
    names = {"Gender": "sex", "Ethnic": "ethnicity", "Base Drug Combo": "base combination", "Extra PI": "extra PI"}
    names |= {"Extra pk-En": "extra enhancer", "VL": "viral load", "CD4": "CD4"}
    for measure in ("tv", "ks"):
        for column, ceiling in ours[f"{measure}_ceiling"].items():
            scores = " | ".join(bare(row[measure][column]) for row in (published, ours))
            yield f"| {names[column]} | {measure.upper()} | {scores} | {bare(ceiling)} |"
    yield f"| patients accepted of those sampled | share | {bare(published['acceptance'])} | {ours['acceptance']:.0f} |"
    speeds = f"{bare(published['patients_per_s'], 2)} | {ours['patients_per_s']:.0f}"
    yield f"| patients a second, other work beside it | | {speeds} |"
