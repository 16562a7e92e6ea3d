"""The verb train: a table becomes a run folder."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hg3 import disk
from hg3.config import Preset, load_preset, parse_preset
from hg3.diffusion.loss import Batch
from hg3.errors import ConfigError, RunError, TableError
from hg3.table.chains import fit_chains
from hg3.table.checks import checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.encoding import Encoded, encode, fit_encoder
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema
from hg3.table.schema_encoding import check_complete, check_says_all, encoder_of_schema
from hg3.table.split import Split, split_from_dict, split_patients
from hg3.training.budget import Budget, planned_budget, resumed_budget
from hg3.training.checkpoint import Recipe, check_is_run, checkpoints, read_recipe, read_state, set_damaged_aside
from hg3.training.curve import draw_loss_curve
from hg3.training.device import default_device
from hg3.training.distributed import Processes, processes
from hg3.training.loop import run_updates
from hg3.training.metrics import Metrics
from hg3.training.private import PrivateTrainer
from hg3.training.signals import stop_on_signals
from hg3.training.trainer import Trainer
from hg3.training.validation import spread

FORMAT = 1
LOCK = ".lock"  # in a run: held by who trains it
DEVICE_SHARE = 0.5  # of the free device memory that the data may take; the rest is for training
HELD_FILES = {
    "split.json": "the ids of the patients, by part, and the path of their table",
    "encoder.json": "quantiles, constants and ranges of real columns, which codes occur and how they follow each other",
    "metrics.jsonl": "losses on these patients, and how well an attack tells who was trained on",
    "loss.png": "the same as a curve",
    "checkpoints/": "weights trained on these patients",
}
HELD_FILES_UNDER_PRIVACY = {
    "split.json": HELD_FILES["split.json"],
    "checkpoints/": "weights trained on these patients under differential privacy, as their state.json says",
}
LARGEST_SEED = 2**63 - 1

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Prepared:
    """A checked cohort with its split, recipe and tensors, ready to train on."""

    recipe: Recipe
    split: Split
    table: dict[str, str]
    cohort: Cohort
    encoded: Encoded

    @property
    def n_train(self) -> int:
        """How many patients are learnt from."""
        return int(self.split.train.sum())


def train(
    table: str | Path,
    out: str | Path,
    schema: str | Path | None = None,
    preset: str | Path | None = None,
    changes: dict[str, str] | None = None,
    updates: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    resume: bool = False,
    report: Report = lambda entry: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> bool:
    """Train on `table` and leave a run in `out`; return False if a signal stopped it early.

    Parameters
    ----------
    table : CSV or Parquet, long format.
    schema, preset : shipped names or paths, preset "hg3" if absent; with `resume` the run's own, others are refused.
    changes : preset keys to change, {"network.width": "64"}; with `resume`, only keys of training.
    updates, minutes : how long, exactly one of them for a fresh run. `updates` runs are the reproducible ones;
        `minutes` times the first 50 updates, fixes the total and writes it down.
    seed : of the split, the first weights and all training noise, 0 if absent; with `resume` the run's own.
    report : called after each update with its numbers; warn : called with each warning.

    Raises
    ------
    Hg3Error
        If anything given is not usable; nothing is left behind then.
    """
    table, out = Path(table), Path(out)
    _check_numbers(updates, minutes, seed or 0)
    with processes(default_device()) as these:
        if not these.leads:
            report = warn = _say_nothing
        if resume:
            check_is_run(out)
            with _held(out, these):
                for sentence in set_damaged_aside(out) if these.leads else ():
                    warn(sentence)
                these.wait()  # until no checkpoint is renamed any more
                _refuse_other_run(out, schema, preset, seed)
                prepared = _prepare_resumed(table, out, changes or {})
                budget = resumed_budget(prepared.recipe.preset, prepared.n_train, updates, _last_state(out))
                trainer = make_trainer(prepared, read_split(out)["seed"], these.device, budget, these)
                return _train(out, trainer, updates, minutes, report, warn)
        if updates is None and minutes is None:
            raise ConfigError("give one of updates and minutes: how long shall the training be?")
        _check_free(out)
        seed = seed or 0
        prepared = _prepare(table, schema, load_preset(preset or "hg3", changes), seed, warn)
        budget = planned_budget(prepared.recipe.preset, prepared.n_train, updates)
        trainer = make_trainer(prepared, seed, these.device, budget, these)
        these.wait()  # until all have found the folder free
        if these.leads:
            _make_run(out, prepared, seed)
        with _held(out, these):
            return _train(out, trainer, updates, minutes, report, warn)


def _say_nothing(_: Any) -> None:
    """Stand in for `report` and `warn` where another process speaks."""


@contextmanager
def _held(out: Path, these: Processes) -> Iterator[None]:
    """Hold the run folder, without what a killed writer left in it; of several processes, the first one holds it."""
    if not these.leads:
        yield
        return
    with disk.lock(out / LOCK, "run folder"):
        disk.remove_temporaries(out)
        yield


def _check_numbers(updates: int | None, minutes: float | None, seed: int) -> None:
    if updates is not None and minutes is not None:
        raise ConfigError("updates and minutes were both given; give one of them")
    if updates is not None and updates < 1:
        raise ConfigError(f"{updates} updates were asked for; a training has at least 1")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"{minutes} minutes were asked for; give more than 0")
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"seed {seed} was given; a seed is a whole number from 0 to 2^63 - 1")


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already and not empty; choose another folder, or go on with --resume")


def _prepare(
    table: Path, schema: str | Path | None, preset: Preset, seed: int, warn: Callable[[str], None]
) -> Prepared:
    if schema is None:
        raise ConfigError("a fresh run needs a schema: a shipped name or the path of one")
    loaded, place = load_schema(schema), _written_path(table)
    cohort, warnings = _checked(table, loaded, preset)
    split = split_patients(cohort.n_patients, seed)
    check_batch(int(split.train.sum()), preset)
    if preset.privacy is None:
        encoder, more = fit_encoder(cohort, split.train, preset.encoding.scaling)
    else:
        encoder, more = encoder_of_schema(loaded, preset.encoding.scaling, preset.privacy.complete)
    for sentence in (*warnings, *more):
        warn(sentence)
    source, encoded = {"path": place, "sha256": disk.sha256_of(table)}, encode(cohort, encoder)
    if preset.network.kind == "hg3" and preset.privacy is None:  # counts without noise tell of a patient
        encoder = replace(encoder, layout=fit_chains(encoded, split.train, encoder.layout))
    return Prepared(Recipe(preset, loaded, encoder), split, source, cohort, encoded)


def _checked(table: Path, schema: TableSchema, preset: Preset) -> tuple[Cohort, list[str]]:
    """Return the checked cohort and the warnings.

    In a private training a column that no patient has a value of is no reason to refuse, for one more patient may
    have one; and nothing is told of the table, whose warnings hold counts that have no noise.
    """
    if preset.privacy is None:
        return checked_cohort(read_table(table, schema), schema)
    check_says_all(schema, preset.encoding.scaling)
    cohort, _ = checked_cohort(read_table(table, schema), schema, to_learn_from=False)
    if preset.privacy.complete:
        check_complete(cohort)
    return cohort, []


def _written_path(table: Path) -> str:
    """Return the table's absolute path as split.json keeps it, for the comparison with the hold-out."""
    path = str(table.resolve())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise TableError(
            f"the table's path {path!a} is not UTF-8, and a run keeps it; rename the file or its folder"
        ) from None
    return path


def check_batch(n_train: int, preset: Preset) -> None:
    """Refuse a batch that is larger than the training part."""
    if n_train < preset.training.batch:
        raise TableError(
            f"the training part has {n_train} patients and a batch takes {preset.training.batch}; "
            f"lower it, for example --set training.batch={max(n_train // 4, 1)}"
        )


def _refuse_other_run(out: Path, schema: str | Path | None, preset: str | Path | None, seed: int | None) -> None:
    """Refuse to resume with another schema, preset (by its name) or seed than the run was made with."""
    recipe, own_seed = _recipe_of(out), read_split(out)["seed"]
    if schema is not None and load_schema(schema) != recipe.schema:
        raise RunError(f"{out} was made for another schema than {str(schema)!r}; resume without a schema")
    if preset is not None and (name := load_preset(preset).name) != recipe.preset.name:
        raise RunError(f"{out} was made with preset {recipe.preset.name!r}, not {name!r}; resume without a preset")
    if seed is not None and seed != own_seed:
        raise RunError(f"{out} was made with seed {own_seed}, not {seed}; resume without a seed")


def _prepare_resumed(table: Path, out: Path, changes: dict[str, str]) -> Prepared:
    recipe = _changed(_recipe_of(out), changes)
    if not table.is_file():
        raise TableError(f"there is no table at {table}; give the table that the run was made from")
    content, sha256 = read_split(out), disk.sha256_of(table)
    if content["table"]["sha256"] != sha256:
        raise RunError(f"{table} is not the table that {out} was made from: its SHA-256 differs; give that one")
    cohort, _ = _checked(table, recipe.schema, recipe.preset)
    split = split_from_dict(content["patients"], cohort.patients)
    check_batch(int(split.train.sum()), recipe.preset)
    return Prepared(recipe, split, content["table"], cohort, encode(cohort, recipe.encoder))


def _last_state(run: Path) -> dict[str, Any] | None:
    """Return state.json of the last checkpoint of a run, if there is one."""
    found = checkpoints(run)
    return read_state(found[-1]) if found else None


def _recipe_of(run: Path) -> Recipe:
    """Return the recipe of the last checkpoint, whose files have hashes, or that of a run without one yet."""
    found = checkpoints(run)
    if not found:
        return read_recipe(run)
    read_state(found[-1])
    return read_recipe(found[-1])


def _changed(recipe: Recipe, changes: dict[str, str]) -> Recipe:
    """Return the recipe with other keys of training; the rest of a preset is what its weights were made for."""
    fixed = sorted(key for key in changes if not key.startswith("training."))
    if fixed:
        raise ConfigError(f"a resumed run keeps its own {', '.join(fixed)}; of a preset, only training.* can change")
    if not changes:
        return recipe
    return replace(recipe, preset=parse_preset(recipe.preset.to_toml(), recipe.preset.name, changes))


def read_split(run: Path) -> dict[str, Any]:
    """Return split.json of a run: {"format", "seed", "table": {"path", "sha256"}, "patients": {part: ids}}."""
    content = disk.read_json(run / "split.json", "a run of hg3")
    if not isinstance(content, dict) or not {"table", "patients", "seed"} <= content.keys():
        raise RunError(f"{run / 'split.json'} is altered: it is not the split of a run; restore it")
    if content.get("format") != FORMAT:
        raise RunError(f"{run} has format {content.get('format')} and this hg3 reads {FORMAT}; update hg3")
    return content


def _make_run(out: Path, prepared: Prepared, seed: int) -> None:
    """Write the run folder's texts, all or none; it is private (mode 0700), for it is made from patients."""
    out.parent.mkdir(parents=True, exist_ok=True)
    disk.remove_leftovers(out)
    split = {"format": FORMAT, "seed": seed, "table": prepared.table}
    with disk.atomic_folder(out) as temporary:
        prepared.recipe.write(temporary)
        patients = prepared.split.to_dict(prepared.cohort.patients)
        disk.write_json(temporary / "split.json", {**split, "patients": patients})
        private = prepared.recipe.preset.privacy is not None
        disk.write_json(temporary / "private.json", HELD_FILES_UNDER_PRIVACY if private else HELD_FILES)


def _train(
    out: Path,
    trainer: Trainer,
    updates: int | None,
    minutes: float | None,
    report: Report,
    warn: Callable[[str], None],
) -> bool:
    found = checkpoints(out)
    if found:
        for sentence in trainer.restore(found[-1]):
            warn(sentence)
    if updates is not None and updates < trainer.progress.update:
        raise ConfigError(f"{out} has made {trainer.progress.update} updates already and {updates} were asked for")
    if trainer.progress.total is None and updates is None and minutes is None:
        raise ConfigError(f"{out} has no checkpoint that fixes its length; give updates or minutes")
    with stop_on_signals() as stopped:
        if not trainer.processes.leads:
            finished = run_updates(trainer, out / "checkpoints", report, updates, minutes, stopped)
            trainer.processes.wait()  # for the leader, which saves: torchrun may kill it after one that ended
            return finished
        with closing(Metrics(out / "metrics.jsonl", trainer.progress)) as metrics:

            def tell(entry: dict[str, Any]) -> None:
                metrics.add(entry)
                report(entry)

            finished = run_updates(trainer, out / "checkpoints", tell, updates, minutes, stopped, metrics.secure)
        trainer.processes.wait()
    if trainer.validates:
        draw_loss_curve(out / "metrics.jsonl", out / "loss.png")
    return finished


def make_trainer(
    prepared: Prepared,
    seed: int,
    device: torch.device,
    budget: Budget | None = None,
    these: Processes | None = None,
) -> Trainer:
    """Return a trainer with the training and validation patients as tensors, on `device` if they fit.

    budget : of a private training, which gets no validation patients. these : the processes that share the work.

    Raises
    ------
    ConfigError
        If a private training has more than one process, or a batch has fewer patients than there are.
    """
    assert (budget is None) == (prepared.recipe.preset.privacy is None)
    these = these or Processes(device=device)
    _check_processes(these, prepared.recipe.preset)
    length = prepared.recipe.network_length
    train_part = _batch(prepared.encoded, prepared.split.train, length)
    validation = _batch(prepared.encoded, prepared.split.validation, length)
    some = spread(len(validation) if budget is None else 0)
    place = device if _fits(train_part, device) else torch.device("cpu")
    everyone = torch.arange(len(train_part))
    parts = train_part.select(everyone, place), validation.select(some, device)
    if budget is None:
        return Trainer(prepared.recipe, *parts, seed, device, processes=these)
    return PrivateTrainer(prepared.recipe, *parts, seed, device, budget=budget)


def _check_processes(these: Processes, preset: Preset) -> None:
    if these.count > 1 and preset.privacy is not None:
        raise ConfigError(
            f"a private training runs in one process, whose noise nobody else adds to, and {these.count} were started: "
            "start it without torchrun"
        )
    if these.count > preset.training.batch:
        raise ConfigError(
            f"a batch of {preset.training.batch} patients has no share for each of {these.count} processes: start fewer"
        )


def _batch(encoded: Encoded, patients: Any, length: int) -> Batch:
    """Return the chosen patients, x_dynamic padded with zeros to `length` times."""
    parts = (encoded.x_static, encoded.x_dynamic, encoded.observed_static, encoded.observed_dynamic)
    batch = Batch(*(torch.from_numpy(part[patients]) for part in parts))
    return replace(batch, x_dynamic=F.pad(batch.x_dynamic, (0, length - batch.x_dynamic.shape[2])))


def _fits(batch: Batch, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    size = sum(t.numel() * t.element_size() for t in vars(batch).values())
    return size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
