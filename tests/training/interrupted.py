"""A tiny training in a process of its own that meets a real signal: TABLE SCHEMA OUT SIGNAL UPDATE [writing|written].

With `writing`, the signal comes while the checkpoint of that update is written, whole but not yet renamed; with
`written`, right after it was renamed.
Exit status 0 if the training ended by itself, 130 if it was stopped at a checkpoint.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from hg3 import disk
from tests.training.cases import Inputs, at_update, tiny_train


def main(table: str, schema: str, out: str, name: str, update: str, *when: str) -> int:
    def strike() -> None:
        os.kill(os.getpid(), getattr(signal, name))

    def strike_at_renaming(new: Path, path: Path) -> None:
        ours = path.name == f"step-{int(update):06d}"
        if ours and when == ("writing",):
            strike()
        rename(new, path)
        if ours:
            strike()

    rename, never = disk.replace_folder, 10**9
    if when:
        disk.replace_folder = strike_at_renaming
    torch.set_num_threads(1)
    report = at_update(never if when else int(update), strike)
    return 0 if tiny_train(Inputs(Path(table), Path(schema)), Path(out), report=report) else 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
