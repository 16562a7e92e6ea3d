"""The manifest of a release, read back: what made it and what came out. Reading needs no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from hg3 import disk
from hg3.errors import ReleaseError, RunError

FORMAT = 1
INCOMPLETE = "incomplete"  # the subfolder that exists while a release does not yet
SUMS = "SHA256SUMS"
PROVENANCE = "provenance.json"
TEXTS = ("CARD.md", "croissant.json", "dictionary.csv", "manifest.json", "schema.toml")  # beside the parts
UNSUMMED = (SUMS, PROVENANCE, "certificate.json")  # the sums themselves, and what varies and has a seal of its own


class _RuleCounts(BaseModel):
    """What became of a rule, in counts; see `hg3.table.enforcement.RuleCount`."""

    eligible: int = Field(ge=0)
    violations_before: int = Field(ge=0)
    cells_changed: int = Field(ge=0)
    rows_dropped: int = Field(ge=0)
    violations_after: int = Field(ge=0)


class _Part(BaseModel):
    """What a manifest says of a part, as far as it is read."""

    file: str
    sha256: str
    first_patient: int
    patients: int = Field(ge=1)
    rows: int = Field(ge=1)
    moved: int = Field(ge=0)
    attempts: int = Field(ge=0)
    rules: list[_RuleCounts] = []


class _Sampler(BaseModel):
    """The sampler's table, see `hg3.sampling.solvers.SamplerTable`: a time and a row of seven numbers a step.

    decode : how codes were taken from their probabilities; not written where they are the most probable ones.
    """

    solver: str = Field(min_length=1)
    steps: int = Field(ge=1)
    eta: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    times: list[Annotated[int, Field(ge=0)]]
    rows: list[Annotated[list[FiniteFloat], Field(min_length=7, max_length=7)]]
    decode: Literal["argmax", "draw"] = "argmax"

    @model_validator(mode="after")
    def _one_row_a_step(self) -> Self:
        if not self.steps == len(self.times) == len(self.rows):
            raise ValueError("has other times or rows than steps")
        if self.times != sorted(set(self.times), reverse=True):
            raise ValueError("has times that do not decrease")
        return self


class _Rule(_RuleCounts):
    rule: str


class _Guardrail(BaseModel):
    moved: int = Field(ge=0)
    nonfinite: int = Field(ge=0)
    attempts: int = Field(ge=0)
    rejected: int = Field(ge=0)
    rules: list[_Rule] = []


class _Privacy(BaseModel):
    """What a private training says of itself, as far as it is shown; see `hg3.training.budget.Budget`."""

    epsilon: float = Field(ge=0, allow_inf_nan=False)
    asked: float = Field(gt=0, allow_inf_nan=False)
    delta: float = Field(gt=0, lt=1)
    clip: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(gt=0, allow_inf_nan=False)
    sample_rate: float = Field(gt=0, le=1)
    batch: int = Field(ge=1)
    updates: int = Field(ge=1)
    made_updates: int = Field(ge=0)
    patients: int = Field(ge=1)
    accountant: str
    unit: str
    outside: list[str]

    @model_validator(mode="after")
    def _no_more_than_planned(self) -> Self:
        if self.epsilon > self.asked or self.made_updates > self.updates:
            raise ValueError("spends more than was asked for")
        return self


class _Manifest(BaseModel):
    """A manifest, as far as it is read; whether it speaks the truth is for verify to find out."""

    format: int = Field(ge=1)
    name: str
    title: str
    step: str
    length: int
    preset: str
    guardrail: _Guardrail
    checkpoint: str
    patients: int
    rows: int
    seed: int = Field(ge=0, lt=2**63)
    where: dict[str, int | FiniteFloat | str]
    balance: str | None
    sampler: _Sampler
    block: int = Field(ge=1)
    part_blocks: int = Field(ge=1)
    versions: dict[str, str]
    device: dict[str, str | None]
    precision: Literal["float32", "bfloat16", "float16"]
    implementation: str
    compile: str
    privacy: _Privacy | None = None
    mixed: list[dict[str, Any]]
    parts: list[_Part] = Field(min_length=1)


def summed_files(manifest: dict[str, Any]) -> list[str]:
    """Return the files that SHA256SUMS lists, in order."""
    return sorted((*TEXTS, *(entry["file"] for entry in manifest["parts"])))


def read_manifest(release: Path) -> dict[str, Any]:
    """Return the manifest of a complete release.

    Raises
    ------
    ReleaseError
        If the folder is no release, is not complete, or has a newer format.
    """
    if (release / INCOMPLETE).exists():
        raise ReleaseError(f"{release} is not complete; call hg3 generate again with the same arguments to go on")
    if not (release / "manifest.json").is_file():
        raise ReleaseError(f"{release} is not a release of hg3: it holds no manifest.json")
    try:
        manifest = disk.read_json(release / "manifest.json", "a release of hg3")
    except RunError as error:
        raise ReleaseError(str(error)) from None
    written = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise ReleaseError(f"{release} has format {written} and this hg3 reads up to {FORMAT}; update hg3")
    try:
        _Manifest.model_validate(manifest, strict=True)
    except ValidationError:
        raise ReleaseError(
            f"{release / 'manifest.json'} is altered: it is not a manifest of hg3; get the release anew"
        ) from None
    return manifest
