"""One reverse step: the fused operator against the chain of torch's own operators, and against the speed of a copy.

python -m benchmarks.reverse_step --json benchmarks/results/reverse_step.json

Both sides take the same rows of the same samplers in place, on patients of the layout of art-hiv-v3-demo: two reals
under a v head with bounds, five categories under logits. Without noise a step does little but read and write, so that
its bytes over its time are set beside those of a copy of as many bytes, at least four times the last cache; so are
those of a step of as many channels that are all reals, which has no softmax. Sides alternate in one process; `ratio`
is of the minima.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import last_cache, machine
from benchmarks.targets import at_least, print_targets
from benchmarks.timing import in_turns
from hg3 import disk
from hg3.diffusion.heads import bounds_table, head_table
from hg3.diffusion.schedule import cosine_schedule
from hg3.layout import Block, chained
from hg3.philox import Stream, stream_word
from hg3.sampling import ops
from hg3.sampling.solvers import HISTORY, STEP_STD, sampler_table
from hg3.table.schema import load_schema

SCHEMA, LENGTH, N_STEPS, STEP = "art-hiv-v3-demo", 64, 20, 10  # a step in the middle of a sampler
PATIENTS = {"cpu": (4096,), "cuda": (65536, 262144)}
TARGETS = {"cpu": {"ratio": 4.0, "copy": 0.6}, "cuda": {"copy": 0.9, "copy_with_noise": 0.75}}
SOLVERS = ("ancestral", "ddim", "dpm++")
# how the network leaves its output: channels last, as generation has it; the others for comparison
RAW = (("float32", "channels last"), ("float32", "contiguous"), ("bfloat16", "channels last"))
AS_GENERATED = (RAW[0], RAW[2])
Case = tuple[str, str, str]  # solver, type of raw, its memory layout
Step = Callable[[], object]


def blocks() -> tuple[Block, ...]:
    """Return the blocks of the schema's columns; reals within four standard deviations."""
    columns = load_schema(SCHEMA).columns
    return chained(
        Block(c.name, "real", 0, 1, -4.0, 4.0) if c.is_real else Block(c.name, "category", 0, len(c.categories or ()))
        for c in columns
    )


def reals(n_channels: int) -> tuple[Block, ...]:
    """Return as many blocks of reals: what a step is without softmax, and so without an exponential."""
    return chained(Block(f"real {number}", "real", 0, 1, -4.0, 4.0) for number in range(n_channels))


class State:
    """What both sides work on: x_t, x_0_prev and raw (B, C, L), and the row of a solver's table."""

    def __init__(self, case: Case, n_patients: int, device: torch.device, reals_only: bool = False) -> None:
        solver, dtype, memory = self.case = case
        n_channels = blocks()[-1].channels.stop
        self.reals_only, self.blocks = reals_only, reals(n_channels) if reals_only else blocks()
        shape = (n_patients, n_channels, LENGTH)
        generator = torch.Generator(device).manual_seed(0)
        x, raw, past = (torch.randn(shape, generator=generator, device=device) for _ in range(3))
        self.x, self.x_0_prev = x, past.clamp_(-1, 1)
        raw = raw.to(getattr(torch, dtype))
        self.raw = raw.mT.contiguous().mT if memory == "channels last" else raw
        self.table = torch.tensor(sampler_table(solver, cosine_schedule(1000), N_STEPS).rows, dtype=torch.float32)
        self.row = self.table[STEP].tolist()

    def described(self) -> dict[str, Any]:
        names = dict(zip(("solver", "raw", "memory"), self.case, strict=True))
        noise, columns = bool(self.row[STEP_STD]), "reals" if self.reals_only else SCHEMA
        return {**names, "columns": columns, "patients": len(self.x), "noise": noise}

    def bytes_of_a_step(self) -> int:
        """Return the bytes that the row reads and writes: x_t, raw, x_s, and x_0_prev and x_0_hat with history."""
        own = self.x.numel() * self.x.element_size()
        return self.raw.numel() * self.raw.element_size() + own * (4 if self.row[HISTORY] else 2)


def operator(state: State, step: Any) -> Step:
    """Return the operator of hg3 in place, as generation calls it; `step` is one of its implementations."""
    device = state.x.device
    patient = torch.arange(len(state.x), device=device)
    stream = torch.full_like(patient, stream_word(Stream.STEP_DYNAMIC))
    layout, bounds = head_table(state.blocks, "v", "logits").to(device), bounds_table(state.blocks).to(device)
    now, seed = torch.tensor(STEP, device=device), torch.tensor(1, device=device)
    rest = (state.table.to(device), now, layout, bounds, seed, patient, stream)
    return lambda: step(state.x, state.raw, state.x_0_prev, *rest)


def chain(state: State, counted: bool) -> Step:
    """Return the same arithmetic as torch's operators; with the guardrail's and the NaNs' counts if `counted`."""
    signal_t, noise_t, a, b0, b1, step_std, history = state.row
    real = next(b.start for b in state.blocks if b.kind == "category")  # reals come first
    categories = [b.channels for b in state.blocks if b.kind == "category"]
    bounds = bounds_table(state.blocks)[:real, :, None].to(state.x.device)

    def take() -> object:
        raw, x = state.raw.to(torch.float32, memory_format=torch.contiguous_format), state.x  # faster than as it lies
        free = signal_t * x[:, :real] - noise_t * raw[:, :real]
        held = torch.clamp(free, bounds[:, 0], bounds[:, 1])
        x_0_hat = torch.cat([held, *(torch.softmax(raw[:, block], 1) for block in categories)], 1)
        x_0_hat[:, real:].mul_(2).sub_(1)
        x.mul_(a).add_(x_0_hat, alpha=b0)
        if history:
            x.add_(state.x_0_prev, alpha=b1)
            state.x_0_prev = x_0_hat
        if step_std:
            x.add_(torch.randn_like(x), alpha=step_std)
        return ((held != free).sum((1, 2)), (~torch.isfinite(raw)).sum((1, 2))) if counted else None

    return take


def alternating(sides: dict[str, Step], repeats: int) -> dict[str, dict[str, float]]:
    """Return each side's first, least and median milliseconds; every round runs each side once."""
    return {
        name: {
            "first_ms": round(1e3 * timed.first, 3),
            "min_ms": round(1e3 * timed.seconds, 3),
            "median_ms": round(1e3 * timed.median, 3),
        }
        for name, timed in in_turns(sides, repeats).items()
    }


def check_agreement(case: Case, device: torch.device) -> None:
    """Raise if the two sides do not compute the same, noise aside."""
    one, other = (State(case, 8, device) for _ in range(2))
    for state in (one, other):
        state.row[STEP_STD] = state.table[STEP, STEP_STD] = 0.0
    operator(one, ops.reverse_step_)()
    chain(other, counted=False)()
    torch.testing.assert_close(one.x, other.x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.x_0_prev, other.x_0_prev, rtol=1e-5, atol=1e-5)


def against_the_chain(case: Case, n_patients: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Return a row: the fused step, the chain, the chain that counts, and hg3's own implementation in torch."""
    check_agreement(case, device)
    state = State(case, n_patients, device)
    fused, plain = operator(state, ops.reverse_step_), operator(state, ops._reverse_step_in_place_torch)
    sides = {"fused": fused, "eager": chain(state, False), "eager, counting": chain(state, True)}
    times = alternating(sides, repeats) | alternating({"torch implementation": plain}, 2)
    return state.described() | {"ratio": round(times["eager"]["min_ms"] / times["fused"]["min_ms"], 2), "sides": times}


def against_a_copy(
    case: Case, n_patients: int, repeats: int, device: torch.device, reals_only: bool = False
) -> dict[str, Any]:
    """Return a row: the fused step beside a copy that reads and writes as many bytes."""
    one = State(case, 1, device).bytes_of_a_step()
    n_patients = max(n_patients, -(-4 * (last_cache(device) or 0) // one))
    state = State(case, n_patients, device, reals_only)
    n_bytes = state.bytes_of_a_step()
    source = torch.ones(n_bytes // 8, device=device)
    target = torch.zeros_like(source)
    sides = {"fused": operator(state, ops.reverse_step_), "copy": lambda: target.copy_(source)}
    times = alternating(sides, repeats)
    speed = {name: round(n_bytes / side["min_ms"] / 1e6, 2) for name, side in times.items()}
    share = round(times["copy"]["min_ms"] / times["fused"]["min_ms"], 3)
    return state.described() | {"megabytes": n_bytes / 1e6, "gb_per_s": speed, "ratio": share, "sides": times}


def measure(sizes: Sequence[int], repeats: int, device: torch.device, with_noise: bool) -> dict[str, Any]:
    """Return both tables, that of copies for each of `sizes`: of the rows without noise, and `with_noise` of all."""
    cases = [(solver, *raw) for solver in SOLVERS for raw in RAW]
    quiet = [case for case in cases if with_noise or case[0] != "ancestral"]
    plain = [case for case in quiet if case[1:] == RAW[0]]
    chains = [against_the_chain(case, sizes[0], repeats, device) for case in cases]
    copies = [against_a_copy(case, n, repeats, device) for n in sizes for case in quiet]
    copies += [against_a_copy(case, n, repeats, device, reals_only=True) for n in sizes for case in plain]
    return {
        "ratio": chains[0]["ratio"],  # with noise, as the network leaves its output
        "shape": [sizes[0], State(("ddim", *RAW[0]), 1, device).x.shape[1], LENGTH],
        "chain": chains,
        "copy": copies,
        "targets": targets(chains, copies, device.type),
        "last_cache": last_cache(device),
    }


def targets(chains: list[dict[str, Any]], copies: list[dict[str, Any]], device_type: str) -> list[dict[str, Any]]:
    """Return what was to be reached with the network's output as it leaves it, and whether it is."""
    goals = TARGETS[device_type]
    found = [
        at_least(f"{_of(row)}: times eager chain", row["ratio"], goals["ratio"])
        for row in chains
        if "ratio" in goals and row["noise"] and _as_generation_has_it(row)
    ]
    return found + [
        at_least(f"{_of(row)}: share of a copy", row["ratio"], goals["copy_with_noise" if row["noise"] else "copy"])
        for row in copies
        if row["columns"] == SCHEMA and _as_generation_has_it(row)
    ]


def _as_generation_has_it(row: dict[str, Any]) -> bool:
    return (row["raw"], row["memory"]) in AS_GENERATED


def _of(row: dict[str, Any]) -> str:
    return f"{row['solver']} {row['raw']}, {row['patients']}"


def print_tables(result: dict[str, Any]) -> None:
    print(f"{tuple(result['shape'])}, milliseconds: least (median)")
    for row in result["chain"]:
        sides = "  ".join(f"{name} {s['min_ms']:.2f} ({s['median_ms']:.2f})" for name, s in row["sides"].items())
        print(f"{row['solver']:<10}{row['raw']:<9}{row['memory']:<14}{sides}  ratio {row['ratio']:.2f}")
    print(f"bytes a second beside a copy's, last cache {(result['last_cache'] or 0) / 2**20:.0f} MiB")
    for row in result["copy"]:
        speed = f"fused {row['gb_per_s']['fused']:.1f} GB/s  copy {row['gb_per_s']['copy']:.1f} GB/s"
        size = f"{row['columns']:<17}{row['patients']:>7} patients {row['megabytes']:>7.0f} MB"
        print(f"{row['solver']:<10}{row['raw']:<9}{row['memory']:<14}{size}  {speed}  share {row['ratio']:.2f}")
    print_targets(result["targets"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", choices=sorted(PATIENTS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--patients", type=int, nargs="+", help="4096 on a CPU, 65536 and 262144 on a GPU if absent")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    before = machine()
    with torch.inference_mode():
        result = measure(given.patients or PATIENTS[given.device], given.repeats, device, given.device == "cuda")
    print_tables(result)
    disk.write_text(given.json, json.dumps({**result, "machine": before}, indent=2) + "\n")


if __name__ == "__main__":
    main()
