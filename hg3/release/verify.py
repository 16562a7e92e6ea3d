"""The verb verify: sums, manifest and content of a release, and any part of it computed anew."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hg3 import __version__, disk
from hg3.errors import ConfigError, ReleaseError, RunError
from hg3.release.card import card, dictionary_rows
from hg3.release.certificate import read_certificate
from hg3.release.croissant import croissant
from hg3.release.manifest import PROVENANCE, SUMS, UNSUMMED, read_manifest, summed_files
from hg3.release.plan import n_parts, part_name
from hg3.release.recompute import recompute_patients
from hg3.release.verify_part import part_faults
from hg3.table.schema import TableSchema, load_schema

REPORT_FILES = re.compile(r"report/(report\.html|metrics\.json|figures/[^/]+\.svg)")  # of hg3 evaluate, if it is here


@dataclass
class Verification:
    """What was verified; `faults` is empty for a release that is as it was made."""

    files: int = 0
    rows: int = 0
    patients: int = 0
    recomputed_patients: int = 0
    recomputed_equal: str = ""
    certificate: dict[str, Any] | None = None
    faults: list[str] = field(default_factory=list)


def verify_release(
    release: str | Path, recompute: int = 0, run: str | Path | None = None, certified: bool = True
) -> Verification:
    """Return what was verified of `release`.

    Parameters
    ----------
    recompute : number of random patients whose blocks are generated anew from `run` and compared.
    certified : whether to look at the certificate too, if there is one.

    Raises
    ------
    ReleaseError
        If anything is missing, altered, surplus, or against the schema; the message holds every finding.
    """
    release = Path(release)
    manifest = read_manifest(release)
    found = Verification()
    _check_sums(release, set(summed_files(manifest)), found)
    _check_provenance(release, found)
    if not found.faults:
        _check_parts(release, manifest, load_schema(release / "schema.toml"), found)
    if recompute and not found.faults:
        if run is None:
            raise ConfigError("recomputing needs the run that the release was made from; give --run")
        again = recompute_patients(release, manifest, recompute, Path(run))
        found.recomputed_patients, found.recomputed_equal = again.patients, again.equal
        found.faults += again.faults
    if certified:
        _check_certificate(release, found)
    if found.faults:
        raise ReleaseError(f"{release} does not verify: " + " | ".join(found.faults))
    return found


def _check_certificate(release: Path, found: Verification) -> None:
    try:
        found.certificate = read_certificate(release)
    except ReleaseError as error:
        found.faults.append(str(error))


def _check_sums(release: Path, wanted: set[str], found: Verification) -> None:
    """Check that the release holds the files `wanted`, no other, each with the sum that SHA256SUMS lists."""
    try:
        text = (release / SUMS).read_text(encoding="utf-8")
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
    except (OSError, ValueError):
        found.faults.append(f"{SUMS} is missing or altered")
        return
    if text != "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)):
        found.faults.append(f"{SUMS} is not as hg3 writes it")
    present = _present(release)
    for name in sorted(wanted | present | listed.keys()):
        if name not in present:
            found.faults.append(f"{name} is missing")
        elif name not in wanted:
            found.faults.append(f"{name} is not a file of this release")
        elif name not in listed:
            found.faults.append(f"{name} is not listed in {SUMS}")
        elif disk.sha256_of(release / name) != listed[name]:
            found.faults.append(f"{name} is altered: its SHA-256 is not the recorded one")
    found.files = len(listed)


def _present(release: Path) -> set[str]:
    """Return the files of a release, without those that have no sum and those of a report."""
    files = (str(path.relative_to(release)) for path in release.rglob("*") if path.is_file())
    return {name for name in files if name not in UNSUMMED and not REPORT_FILES.fullmatch(name)}


def _check_provenance(release: Path, found: Verification) -> None:
    """Check the one text that has no sum, for it varies between makings, by the seal in it."""
    try:
        content = disk.read_sealed(release / PROVENANCE, "a release of hg3")
        if (release / PROVENANCE).read_bytes() == disk.json_text(content).encode():
            return
    except RunError:
        pass
    found.faults.append(f"{PROVENANCE} is missing or altered: its seal is not that of its content")


def _check_parts(release: Path, manifest: dict[str, Any], schema: TableSchema, found: Verification) -> None:
    if not _is_cut_as_planned(manifest):
        found.faults.append("manifest.json names other parts than its patients and blocks make")
        return
    found.faults += _schema_faults(manifest, schema)
    found.faults += _text_faults(release, manifest, schema)
    for entry in manifest["parts"]:
        faults, rows = part_faults(release / entry["file"], entry, manifest, schema)
        found.faults += [f"{entry['file']}: {fault}" for fault in faults]
        found.rows += rows
        found.patients += entry["patients"]
    if found.rows != manifest["rows"] and not found.faults:
        found.faults.append("the parts do not add up to the rows of the manifest")


def _is_cut_as_planned(manifest: dict[str, Any]) -> bool:
    per_part, patients = manifest["block"] * manifest["part_blocks"], manifest["patients"]
    if n_parts(manifest) != len(manifest["parts"]):
        return False
    wanted = [
        (part_name(number), first, min(per_part, patients - first))
        for number, first in enumerate(range(0, patients, per_part))
    ]
    return [(entry["file"], entry["first_patient"], entry["patients"]) for entry in manifest["parts"]] == wanted


def _schema_faults(manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return which entries that the manifest repeats from the schema are others there."""
    return [
        f"manifest.json has another {key} than schema.toml"
        for key in ("name", "title", "step", "length")
        if manifest[key] != getattr(schema, key)
    ]


def _text_faults(release: Path, manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return which texts are not what schema and manifest make of them; another hg3 may have worded them otherwise."""
    guardrail = manifest["guardrail"]
    faults = ["manifest.json counts values that were not finite"] if guardrail["nonfinite"] else []
    if guardrail["attempts"] - guardrail["rejected"] != manifest["patients"]:
        faults.append("manifest.json has other attempts than its patients and its rejected ones")
    for key in ("moved", "attempts"):
        if guardrail[key] != sum(entry[key] for entry in manifest["parts"]):
            faults.append(f"manifest.json counts {key} otherwise than its parts do")
    faults += _rule_sum_faults(manifest, schema)
    if manifest["versions"].get("hg3") != __version__:
        return faults
    texts = {"CARD.md": card(schema, manifest), "dictionary.csv": dictionary_rows(schema)}
    texts["croissant.json"] = disk.json_text(croissant(schema, manifest))
    wrong = [name for name, text in texts.items() if (release / name).read_bytes() != text.encode()]
    return faults + [f"{name} is not what the schema and the manifest make" for name in wrong]


def _rule_sum_faults(manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return whether the counts of the rules are not those of the schema's rules, summed over the parts."""
    counted = manifest["guardrail"].get("rules", [])
    names = [rule.sentence for rule in schema.rules]
    parts = [entry.get("rules", []) for entry in manifest["parts"]]
    if [rule["rule"] for rule in counted] != names or any(len(part) != len(names) for part in parts):
        return ["manifest.json counts other rules than the schema has"]
    for number, rule in enumerate(counted):
        if any(rule[key] != sum(part[number][key] for part in parts) for key in rule if key != "rule"):
            return [f"manifest.json counts the rule {rule['rule']!r} otherwise than its parts do"]
    return []
