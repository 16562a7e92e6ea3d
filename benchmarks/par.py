"""SDV's PAR on one table, for `benchmarks.fidelity`; runs in an environment of its own, with sdv, without hg3.

python benchmarks/par.py train.parquet schema.json --patients 1000 --minutes 6 --out made.parquet --json told.json

One epoch is timed on the training patients, then as many are trained as the minutes allow, 128 (PAR's own default) at
most. Where not even one fits, or sampling takes longer than the minutes again, it did not finish.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sdv.metadata import Metadata
from sdv.sequential import PARSynthesizer

DEFAULT_EPOCHS = 128


def metadata(frame: pd.DataFrame, schema: dict[str, Any]) -> Metadata:
    """Return what SDV is told: the patient, the time, which columns are numbers and which are codes."""
    columns = {schema["patient"]: {"sdtype": "id"}, schema["time"]: {"sdtype": "numerical"}}
    for column in schema["columns"]:
        columns[column["name"]] = {"sdtype": "numerical" if column["kind"] == "real" else "categorical"}
    table = {"columns": columns, "sequence_key": schema["patient"], "sequence_index": schema["time"]}
    return Metadata.load_from_dict({"tables": {"table": table}})


def fitted(frame: pd.DataFrame, schema: dict[str, Any], epochs: int) -> tuple[PARSynthesizer, float]:
    context = [column["name"] for column in schema["columns"] if column.get("static")]
    synthesizer = PARSynthesizer(
        metadata(frame, schema), context_columns=context, epochs=epochs, verbose=False, enable_gpu=False
    )
    started = time.perf_counter()
    synthesizer.fit(frame)
    return synthesizer, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("schema", type=Path)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    frame, schema = pd.read_parquet(given.table), json.loads(given.schema.read_text())
    synthesizer, first = fitted(frame, schema, 1)
    epochs = min(DEFAULT_EPOCHS, int(60 * given.minutes / first))
    told = {"sdv": version("sdv"), "first_epoch_seconds": round(first, 1), "epochs": max(epochs, 1)}
    given.json.write_text(json.dumps(told))
    if epochs > 1:
        synthesizer, told["fit_seconds"] = fitted(frame, schema, epochs)
    started = time.perf_counter()
    made = synthesizer.sample(num_sequences=given.patients)
    told["sample_seconds"] = round(time.perf_counter() - started, 1)
    made.to_parquet(given.out)
    given.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
