"""What a release says of itself to people: the data dictionary and the card.

Both are functions of the schema and the manifest alone, and hold no value of a patient: ranges are the
clinical bounds of the schema, never those of the data.
"""

import csv
import io
import math
from typing import Any

from hg3.table.column import Column
from hg3.table.rules import Rule
from hg3.table.schema import TableSchema
from hg3.table.violations import counted

HEADER = (
    *("name", "kind", "static", "unit", "description", "categories"),
    *("lower_bound", "upper_bound", "decimals", "missing", "role"),
)
MOST_CODES = 8  # of a column that the card lists; the dictionary has them all
PATIENT = "Number of a synthetic patient; it stands for nobody"
SYNTHETIC = "Synthetic records drawn from a diffusion model; no row is the record of a real person."

CARD = """\
# {title}: synthetic release

**Every row is synthetic.** {n_patients} patients ({n_rows} rows) were drawn from a diffusion model trained on
a cohort table. No row is a real patient: none was copied from a record, and a patient number stands for
nobody.

## How it was made

- Model: preset `{manifest[preset]}` of hg3 {version}
- Checkpoint: SHA-256 `{manifest[checkpoint]}`
- Sampler: `{manifest[sampler][solver]}`, {manifest[sampler][steps]} steps, seed {manifest[seed]}
- Guardrail: {moved} intermediate values were moved back into the sampling bounds; {nonfinite} were not finite
{rules}{condition}{acceptance}
The same checkpoint, sampler, seed and environment give the same bytes again; `manifest.json` names them all.

## What it holds

`data/`: {n_parts} in long format, one row a patient and {step}, sorted by both.
`{schema.patient}` numbers the patients; `{schema.time}` lies in {schema.first_time} to {last}.{binned}
A missing cell is null. Ranges are clinical bounds, not extremes of the data.
`dictionary.csv` has every code, `schema.toml` is for machines.

{columns}

## How to load it

```python
import hg3

table = hg3.load("RELEASE")             # DataFrame; RELEASE is this folder
arrays = hg3.load("RELEASE", "arrays")  # patients x times x columns, with masks
```

Without hg3: `pandas.read_parquet("RELEASE/data")`.

## How to check it

`sha256sum -c SHA256SUMS` in this folder checks the files; `hg3 release verify RELEASE` also checks the data
against the schema and the manifest.

## What it is good for, and what not

Good for teaching, for building and testing software and analyses before access to real data, and for research
on methods. Not for clinical decisions, and not for clinical conclusions: confirm any finding on real data.
How close the data are to the cohort, how useful and how private is only what an evaluation report says. This
release holds none unless `report/` is here, and nothing is claimed without it.

## Privacy

Synthetic is not the same as anonymous. The model learned from its training cohort and may repeat or closely
imitate records of it, rare ones above all; checksums and this card say nothing of that risk. If the cohort
was of real people, have the risk assessed before you share this further, and do not try to identify anyone.
{privacy}
## Source and licence

{source}
"""


DIFFERENTIAL_PRIVACY = """
## Differential privacy

The model was trained with differential privacy: **epsilon {epsilon}, delta {said[delta]:.2g}**. What it
protects is {said[unit]}.
Whatever anyone concludes from this release about a patient would have been as likely without that patient's record,
up to a factor of exp(epsilon), but for a probability of about delta. One record exchanged for another counts twice.

**Covered** is all that this release holds: it follows from the schema and the weights alone, and however many
releases are made of one training, they cost nothing more.

- Mechanism: {said[made_updates]:,} of {said[updates]:,} planned updates by DP-SGD; each takes every one of
  {said[patients]:,} training patients with probability {said[sample_rate]:.4g}, cuts the gradient of each to a length
  of {said[clip]:g} and adds Gaussian noise of {said[noise_multiplier]:.4g} times that
- Accounted by {said[accountant]}; asked for was an epsilon of {said[asked]:g}

**Not covered**, so to be judged by itself:

{outside}
"""


def dictionary_rows(schema: TableSchema) -> str:
    """Return the data dictionary as CSV text, one row a column of the release.

    `categories` reads `code=label; ...`, in the order of the positions that `hg3.load` gives; an empty bound
    is infinite; `missing` is never, modelled, or the indicator that masks the column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerow((schema.patient, "patient", "yes", "", PATIENT, "", "", "", "", "never", ""))
    first, last = schema.first_time, schema.first_time + schema.length - 1
    time = (schema.time, "time", "no", step(schema), time_sentence(schema), "", first, last, 0, "never", "")
    writer.writerow(time)
    writer.writerows(_dictionary_row(schema, column) for column in schema.columns)
    return text.getvalue()


def _dictionary_row(schema: TableSchema, column: Column) -> tuple[Any, ...]:
    low, high = (number(bound) for bound in column.bounds)
    decimals = "" if column.decimals is None else column.decimals
    static = "yes" if column.static else "no"
    return (
        *(column.name, column.kind, static, column.unit, column.description, "; ".join(coded(column))),
        *(low, high, decimals, missing(schema, column), column.role),
    )


def step(schema: TableSchema) -> str:
    """Return what one step of the time is called."""
    return schema.step if schema.bin is None else f"bin of {schema.bin:g} {schema.step}s"


def time_sentence(schema: TableSchema) -> str:
    """Return what the time column counts."""
    if schema.bin is None:
        return f"Time in whole steps of one {schema.step}"
    formula = f"{schema.time} x {schema.bin:g} + {schema.within}"
    return f"Time in whole bins of {schema.bin:g} {schema.step}s; the time in {schema.step}s is {formula}"


def coded(column: Column) -> list[str]:
    """Return the column's codes as `code=label`, or `code` where the schema has no labels."""
    codes = [str(code) for code in column.categories or ()]
    return [f"{c}={label}" for c, label in zip(codes, column.labels, strict=True)] if column.labels else codes


def missing(schema: TableSchema, column: Column) -> str:
    """Return when the column is empty: never, modelled, masked by its indicator, or both."""
    indicator = schema.masked_by(column.name)
    if indicator is None:
        return column.missing
    masked = f"masked by {indicator}"
    return masked if column.missing == "never" else f"{column.missing}; {masked}"


def number(value: float) -> str:
    """Return a bound as people write it, empty where infinite."""
    if math.isinf(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def card(schema: TableSchema, manifest: dict[str, Any]) -> str:
    """Return the release's card as Markdown."""
    n_parts, guardrail = len(manifest["parts"]), manifest["guardrail"]
    return CARD.format(
        title=_line(schema.title or schema.name),
        schema=schema,
        step=step(schema),
        binned=f"\n{time_sentence(schema)}." if schema.bin is not None else "",
        last=schema.first_time + schema.length - 1,
        n_parts=f"{n_parts:,} Parquet file{'s' * (n_parts != 1)}",
        n_patients=f"{manifest['patients']:,}",
        n_rows=f"{manifest['rows']:,}",
        moved=f"{guardrail['moved']:,}",
        nonfinite=f"{guardrail['nonfinite']:,}",
        rules="".join(_rule(*pair, schema) for pair in zip(schema.rules, guardrail.get("rules", []), strict=False)),
        condition=_condition(manifest),
        acceptance=_acceptance(manifest),
        version=manifest["versions"]["hg3"],
        columns=_columns(schema),
        privacy=_differential_privacy(manifest.get("privacy")),
        source=_source(schema),
        manifest=manifest,
    )


def _rule(rule: Rule, counts: dict[str, Any], schema: TableSchema) -> str:
    """Return the card's line on a rule: how often the sample broke it, what was done, how often it is broken now."""
    of, eligible = counted(rule, schema.by_name), counts["eligible"]
    before, after = (f"{counts[f'violations_{when}'] / max(eligible, 1):.2%}" for when in ("before", "after"))
    done = f"{counts['cells_changed']:,} cells changed, {counts['rows_dropped']:,} rows dropped"
    broken = f"broken by {before} of {eligible:,} {of} as sampled, by {after} here"
    return f"- Rule `{_line(rule.sentence)}`: {broken}; {done}\n"


def condition_sentence(manifest: dict[str, Any]) -> str:
    """Return in words what a release gave its patients, empty where nothing was."""
    parts = [f"{name} = {value}" for name, value in sorted(manifest["where"].items())]
    given = f"every patient was given {', '.join(parts)}" if parts else ""
    equal = f"the codes of {manifest['balance']} have equal shares by request" if manifest["balance"] else ""
    return "; ".join(text for text in (given, equal) if text)


def _condition(manifest: dict[str, Any]) -> str:
    sentence = condition_sentence(manifest)
    if not sentence:
        return ""
    return f"- **Not a picture of the cohort**: {_line(sentence)}\n"


def _acceptance(manifest: dict[str, Any]) -> str:
    guardrail, patients = manifest["guardrail"], manifest["patients"]
    if not guardrail["rejected"]:
        return ""
    share = patients / guardrail["attempts"]
    return f"- Range filter: {patients:,} of {guardrail['attempts']:,} sampled patients were accepted ({share:.1%})\n"


def _differential_privacy(said: dict[str, Any] | None) -> str:
    """Return the card's section on a private training, empty of any other; epsilon is rounded up."""
    if said is None:
        return ""
    outside = "\n".join(f"- {_line(sentence)}" for sentence in said["outside"])
    return DIFFERENTIAL_PRIVACY.format(
        said=said, epsilon=f"{math.ceil(1000 * said['epsilon']) / 1000:g}", outside=outside
    )


def _columns(schema: TableSchema) -> str:
    header = ("column", "kind", "unit", "values", "missing", "description")
    rows = [header, ("---",) * len(header), *(_row(schema, column) for column in schema.columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(schema: TableSchema, column: Column) -> tuple[str, ...]:
    """Return the column's line of the card's table."""
    kind = f"{column.kind}{', static' * column.static}{', action' * (column.role == 'action')}"
    texts = (column.name, kind, column.unit, _values(column), missing(schema, column), column.description)
    return tuple(_cell(text) for text in texts)


def _values(column: Column) -> str:
    if not column.is_real:
        codes = coded(column)
        rest = f"; … ({len(codes)} codes)" if len(codes) > MOST_CODES else ""
        return "; ".join(codes[:MOST_CODES]) + rest
    low, high = (number(bound) for bound in column.bounds)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("\\", "\\\\").replace("|", "\\|")


def _source(schema: TableSchema) -> str:
    if not schema.source.strip():
        return "The schema names neither source nor licence; ask whoever gave you this release."
    return f"{_line(schema.source).rstrip('.')}. hg3 adds no licence of its own to the data."
