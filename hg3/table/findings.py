"""What a check found, in sentences: counts and row positions, never a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hg3.table.column import Code

SHOWN_POSITIONS = 5
SHOWN_NAMES = 10


@dataclass
class Findings:
    """What a check found: `errors` end the job, `warnings` are told.

    `kept` are the positions of the rows that binning left, where it left some out.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: np.ndarray | None = None

    def rows(self, bad: np.ndarray, sentence: str, advice: str) -> np.ndarray:
        """Add an error if any row is `bad`: `sentence` with their count for {n}, positions, `advice`; return `bad`."""
        if bad.any():
            # no str.format: names and codes, which the sentence may hold, may have braces of their own
            self.errors.append(f"{sentence.replace('{n}', str(int(bad.sum())))} ({self._positions(bad)}); {advice}")
        return bad

    def _positions(self, bad: np.ndarray) -> str:
        """Return where `bad` is true as row positions; row 1 is the first below the header."""
        rows = np.flatnonzero(bad)
        return _shown_positions((rows if self.kept is None else self.kept[rows]) + 1)


def _shown_positions(rows: np.ndarray) -> str:
    shown = ", ".join(str(r) for r in rows[:SHOWN_POSITIONS])
    more = f" and {len(rows) - SHOWN_POSITIONS} more" if len(rows) > SHOWN_POSITIONS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def shown_names(names: Sequence[Code]) -> list[Code]:
    return [*names[:SHOWN_NAMES], *(["..."] if len(names) > SHOWN_NAMES else [])]
