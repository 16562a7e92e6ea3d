"""What a measure found, as a sentence with the numbers that it is about."""

from collections.abc import Callable

import numpy as np

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.fidelity.pairs import column_pairs
from hg3.evaluation.fidelity.subgroups import COVERAGE
from hg3.evaluation.fidelity.trends import slopes_of
from hg3.evaluation.panel import Panel, rows_first
from hg3.evaluation.report.associations import Association, association_of
from hg3.evaluation.report.measures import family_of
from hg3.evaluation.report.memory import autocorrelations
from hg3.evaluation.report.patients import cells, code_names, long_name
from hg3.evaluation.report.sayings import saying
from hg3.evaluation.report.scales import percent, short, two_decimals
from hg3.evaluation.report.subgroups import lost_subgroups
from hg3.evaluation.report.transitions import transition_shares
from hg3.evaluation.summaries import correlation, lag_moments
from hg3.evaluation.suppression import FEWEST_PATIENTS, kept_counts, shown_range
from hg3.table.column import Column

Told = str | None  # None where there is nothing that a sentence of this kind could say
ASKED_SHARES = np.linspace(0.05, 0.95, 19)  # points of a distribution at which two are compared in words
STRONG = 0.05  # correlation from which on its sign says something


def sentence(measured: Measured, panels: Parts[Panel]) -> str:
    """Return what a measure found, in plain words; of a measure that is not known its score and its ceiling."""
    columns = _columns(measured.subject, panels)
    tell = SENTENCES.get(family_of(measured))
    told = tell(panels, columns, measured) if tell and columns is not None else None
    if told is None:
        told = saying(measured, long_name(columns[0]) if columns and len(columns) == 1 else measured.subject)
    return told or _plain(measured)


def _columns(subject: str, panels: Parts[Panel]) -> list[Column] | None:
    """Return the columns that a subject names, none for all records; None if it names something else."""
    by_name = panels.holdout.schema.by_name
    if not subject or subject in by_name:
        return [by_name[subject]] if subject else []
    for cut in (place for place in range(len(subject)) if subject.startswith(", ", place)):
        if subject[:cut] in by_name and subject[cut + 2 :] in by_name:
            return [by_name[subject[:cut]], by_name[subject[cut + 2 :]]]
    return None


def _plain(measured: Measured) -> str:
    score, ceiling = (short(float(np.mean(values))) for values in (measured.score, measured.ceiling))
    name = measured.name[0].upper() + measured.name[1:]
    of = f" of {measured.subject}" if measured.subject else ""
    return f"{name}{of}: {score}, where real patients reach {ceiling}."


def _with_unit(value: float, column: Column) -> str:
    return f"{short(value)}{'' if column.unit == '%' else ' '}{column.unit}".strip()


def _less(made: float, real: float) -> str:
    return "less often" if made < real else "more often"


def _both(panels: Parts[Panel], of: Callable[[Panel], float]) -> tuple[float, float]:
    """Return a number of the real and of the synthetic patients."""
    return of(panels.holdout), of(panels.made)


def _shares(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,) = columns
    names = code_names(panels, column)
    values = [cells(panel, column) for panel in (panels.holdout, panels.made)]
    real, made = (kept_counts(v.astype(np.int64), who, len(names)) / max(len(v), 1) for v, who in values)
    clear = np.where(real > 0, np.abs(made - real), 0.0)
    if not clear.any():
        return None
    k, of = int(np.argmax(clear)), "patients" if column.static else "rows"
    numbers = f"{percent(made[k])} of synthetic {of}, against {percent(real[k])} of real ones"
    return f"{long_name(column)} is {names[k]} in {numbers}."


def _distribution(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,) = columns
    (real, who), (made, _made_who) = (cells(panel, column) for panel in (panels.holdout, panels.made))
    low, high = shown_range(real, who)
    if not low < high or not len(made):
        return None
    points = np.unique([float(f"{point:.2g}") for point in np.quantile(real, ASKED_SHARES)])
    points = points[(points > low) & (points < high)]
    if not len(points):
        return None
    below = [(part[:, None] < points).mean(axis=0) for part in (real, made)]
    k = int(np.argmax(np.abs(below[1] - below[0])))
    point = _with_unit(points[k], column)
    numbers = f"{percent(below[1][k])} of cases, against {percent(below[0][k])} among patients"
    return f"{long_name(column)} lies below {point} in {numbers}."


def _changes(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,), step = columns, panels.holdout.schema.step

    def rate(panel: Panel) -> float:
        change = np.diff(rows_first(panel).row_values(column), axis=1)
        return float((change[~np.isnan(change)] != 0).mean()) if (~np.isnan(change)).any() else np.nan

    real, made = _both(panels, rate)
    how = f"changes from {step} to {step} {_less(made, real)} than among patients"
    return f"{long_name(column)} {how}: {percent(made)} against {percent(real)}."


def _steps(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,), step = columns, panels.holdout.schema.step

    def typical(panel: Panel) -> float:
        change = np.abs(np.diff(rows_first(panel).row_values(column), axis=1))
        moved = change > 0  # NaN is not
        return float(np.median(change[moved])) if moved.any(axis=1).sum() >= 2 * FEWEST_PATIENTS else np.nan

    real, made = _both(panels, typical)
    if not np.isfinite(real + made) or short(real) == short(made):
        return None
    size = "smaller" if made < real else "larger"
    return (
        f"{long_name(column)} moves in {size} steps from {step} to {step} than among patients: typically by "
        f"{_with_unit(made, column)} against {_with_unit(real, column)}."
    )


def _transitions(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,), names = columns, code_names(panels, columns[0])
    (real, carried), (made, _carried) = (
        transition_shares(rows_first(p), column) for p in (panels.holdout, panels.made)
    )
    starts = carried.sum(axis=1, keepdims=True) / max(carried.sum(), 1)
    apart = np.where(carried >= FEWEST_PATIENTS, starts * np.abs(made - real), 0.0)
    if not apart.any():
        return None
    i, j = np.unravel_index(int(np.argmax(apart)), apart.shape)
    follows = "stays" if i == j else f"is followed by {names[j]}"
    numbers = f"{percent(made[i, j])} of steps, against {percent(real[i, j])} among patients"
    return f"{long_name(column)}: {names[i]} {follows} in {numbers}."


def _having(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,), step = columns, panels.holdout.schema.step

    def kept(panel: Panel) -> float:
        rows = rows_first(panel)
        seen, both = ~np.isnan(rows.row_values(column)), rows.has_row[:, :-1] & rows.has_row[:, 1:]
        before = both & seen[:, :-1]
        return float((before & seen[:, 1:]).sum() / max(before.sum(), 1))

    real, made = _both(panels, kept)
    head = f"After a {step} with a value of {long_name(column)} the next one has one too"
    return f"{head} {_less(made, real)} than among patients: {percent(made)} against {percent(real)}."


def _stays(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    (column,), step = columns, panels.holdout.schema.step

    def mean_stay(panel: Panel) -> float:
        values = rows_first(panel).row_values(column)
        here = ~np.isnan(values)
        goes_on = here[:, 1:] & (values[:, 1:] == values[:, :-1])
        return float(here.sum() / max(here.sum() - goes_on.sum(), 1))

    real, made = _both(panels, mean_stay)
    return f"{long_name(column)} stays as it is for {short(made)} {step}s on end, against {short(real)} among patients."


def _memory(panels: Parts[Panel], columns: list[Column], measured: Measured) -> Told:
    (column,), lag = columns, int(measured.name.rpartition(" ")[2])
    real, made = (float(part[0]) for part in autocorrelations(panels, column, [lag]))
    if not np.isfinite(real + made):
        return None
    word = "less" if made < real else "more"
    later = f"{lag} {panels.holdout.schema.step}{'s' if lag > 1 else ''} later"
    return (
        f"{long_name(column)} remembers {word} of its past than among patients: its correlation with itself {later} is "
        f"{two_decimals(made)} against {two_decimals(real)}."
    )


def _association(panels: Parts[Panel], columns: list[Column], measured: Measured) -> Told:
    found = next((association_of(panels, p) for p in column_pairs(panels) if p.subject == measured.subject), None)
    if found is None or not np.isfinite(found.real):
        return None
    names = f"{long_name(columns[0])} and {long_name(columns[1])}"
    kind = found.pair.kind.replace("'", "’")
    if not np.isfinite(found.made):
        numbers = f"{kind} is {two_decimals(found.real)} among patients, against none"
        return f"{names} cannot go together in the release, where one of them is always the same: {numbers}."
    numbers = f"{two_decimals(found.made)} against {two_decimals(found.real)}"
    return f"{names} go together {_strength(found)}: {kind} is {numbers}."


def _strength(found: Association) -> str:
    if found.made * found.real < 0 and min(abs(found.made), abs(found.real)) > STRONG:
        return "the other way round than among patients"
    return f"{'less' if abs(found.made) < abs(found.real) else 'more'} than among patients"


def _joint(panels: Parts[Panel], columns: list[Column], _: Measured) -> Told:
    one, other = columns
    names = [code_names(panels, column) for column in columns]
    n, shares = len(names[1]), []
    for panel in (panels.holdout, panels.made):
        both = panel.row_values(one) * n + panel.row_values(other)
        seen = ~np.isnan(both)
        counts = kept_counts(both[seen].astype(np.int64), np.nonzero(seen)[0], len(names[0]) * n)
        shares.append(counts / max(seen.sum(), 1))
    clear = np.where(shares[0] > 0, np.abs(shares[1] - shares[0]), 0.0)
    if not clear.any():
        return None
    k = int(np.argmax(clear))
    what = f"{one.name} {names[0][k // n]} together with {other.name} {names[1][k % n]}"
    return f"{what} is found on {percent(shares[1][k])} of rows, against {percent(shares[0][k])} among patients."


def _length(panels: Parts[Panel], _: list[Column], __: Measured) -> Told:
    real, made = _both(panels, lambda panel: float(panel.lengths.mean()))
    return f"Records last {made:.1f} {panels.holdout.schema.step}s on average, against {real:.1f} among patients."


def _gaps(panels: Parts[Panel], _: list[Column], __: Measured) -> Told:
    real, made = _both(panels, lambda panel: 1.0 - float(panel.has_row.sum() / max(panel.lengths.sum(), 1)))
    step = panels.holdout.schema.step
    return f"Inside a record {percent(made)} of {step}s have no row, against {percent(real)} among patients."


def _slopes(panels: Parts[Panel], columns: list[Column], measured: Measured) -> Told:
    def together(panel: Panel) -> float:
        one, other = (slopes_of(panel, column) for column in columns)
        signs = np.sign(one) * np.sign(other)
        if measured.name == "slope signs":
            both = (np.abs(signs) == 1).sum()
            return float((signs == 1).sum() / both) if both else np.nan
        return float(correlation(lag_moments(one[None], other[None]).sums[0]))

    real, made = _both(panels, together)
    if not np.isfinite(real + made):
        return None
    names = f"{long_name(columns[0])} and {long_name(columns[1])}"
    if measured.name == "slope signs":
        return (
            f"{names} move in the same direction in {percent(made)} of records, against {percent(real)} among patients."
        )
    return f"The slopes of {names} are correlated at {two_decimals(made)}, against {two_decimals(real)} among patients."


SENTENCES: dict[str, Callable[[Parts[Panel], list[Column], Measured], Told]] = {
    "TV": _shares,
    "KS": _distribution,
    "change rate": _changes,
    "row-to-row difference": _steps,
    "transitions": _transitions,
    "mask transitions": _having,
    "dwell times": _stays,
    "autocorrelation": _memory,
    "association": _association,
    "joint table": _joint,
    COVERAGE: lambda panels, _, __: lost_subgroups(panels),
    "record length": _length,
    "gap share": _gaps,
    "slope signs": _slopes,
    "slopes": _slopes,
}
