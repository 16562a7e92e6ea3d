"""A release made by many tasks at once, each its share and then whatever nobody else is at."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import RunError
from hg3.release.making import PLAN, Making, Report, begin, beside_others, is_complete, open_making
from hg3.release.manifest import INCOMPLETE, SUMS
from hg3.release.plan import Request, n_parts
from hg3.release.writer import complete, make_parts


class _StopError(Exception):
    """A signal came in the middle of a part."""


def generate_share(
    run: str | Path,
    out: str | Path,
    patients: int,
    seed: int = 0,
    task: tuple[int, int] = (0, 1),
    should_stop: Callable[[], bool] = lambda: False,
    report: Report = lambda entry: None,
    mix: bool = False,
    compile: str = "none",
    **asked: Any,
) -> bool:
    """Make parts of a release beside other tasks, until none is free; return whether the release is complete.

    A part is free while it is neither there nor under another task's lock. Where a file system has no locks, two tasks
    may make one part at the same time: each writes the same bytes under a name of its own and renames it. Where one is
    slow to show what another node wrote, a part that seems free in the end is waited for before it is made.

    Parameters
    ----------
    task : (k, n), 0 <= k < n: begin with every n-th part from the k-th on, then help the others.
    should_stop : asked between blocks; the part in the making is given up then.
    report : called with {"patients": made by this call so far, "of": of the whole release, "kept": in whole parts}.
    mix, compile, asked : as `hg3.generate` takes them.
    """
    made = 0

    def tell(entry: dict[str, Any]) -> None:
        report({"patients": made + entry["patients"], "of": patients, "kept": made})
        if should_stop():
            raise _StopError

    def make_free() -> bool:
        nonlocal made
        for part in order(n_parts(making.plan), *task):
            made += _make_if_free(making, part)
            report({"patients": made, "of": patients, "kept": made})
        return complete(making)

    def make_all() -> bool:
        if begin(making, mix) or make_free():
            return True
        disk.appears(lambda: not _left_over(making), should_stop)
        return make_free()

    making = open_making(run, out, Request(patients, seed, **asked), compile, tell)
    if is_complete(making.release, making.plan):
        return True
    try:
        return beside_others(making, make_all, should_stop)
    except _StopError:
        return False


def order(parts: int, task: int, tasks: int) -> Iterator[int]:
    """Yield every part once: the task's own from the first, then those of the others from the last, neighbours first.

    So a helper meets the owner of a share as late as possible.
    """
    yield from range(task, parts, tasks)
    for distance in range(1, tasks):
        yield from reversed(range((task + distance) % tasks, parts, tasks))


def _make_if_free(making: Making, part: int) -> int:
    """Make a part that is missing and free; return how many patients were made."""
    if making.note(part).exists():
        return 0
    with ExitStack() as held:
        try:
            held.enter_context(_lock(making, part))
        except RunError:  # another task is at it
            return 0
        return make_parts(making, range(part, part + 1))


def _left_over(making: Making) -> bool:
    """Whether nobody is at a part that has no note, which may be another node's and not shown here yet."""
    return any(_is_free(making, part) for part in range(n_parts(making.plan)) if not making.note(part).exists())


def _is_free(making: Making, part: int) -> bool:
    try:
        with _lock(making, part):
            return not making.note(part).exists()
    except RunError:  # another task is at it
        return False


def _lock(making: Making, part: int) -> AbstractContextManager[None]:
    return disk.lock(making.notes / f"part-{part:05d}.lock", "release folder")


def shares_made(release: Path, tasks: int) -> list[bool]:
    """Return of each task whether all parts of its share are made, at one moment.

    Not all are as long as the release is not complete: what is left to do then is the first task's.
    """
    if (release / SUMS).is_file() and not (release / INCOMPLETE / PLAN).exists():
        return [not (release / INCOMPLETE).exists(), *[True] * (tasks - 1)]  # the notes are removed last
    made = parts_made(release)
    if made is None:
        return [False] * tasks
    notes, parts = made
    if len(notes) == parts:
        return [False, *[True] * (tasks - 1)]
    return [notes.keys() >= set(range(task, parts, tasks)) for task in range(tasks)]


def parts_made(release: Path) -> tuple[dict[int, dict[str, Any]], int] | None:
    """Return the notes of the parts that are made and the number of all, None where no release is in the making."""
    try:
        plan = disk.read_json(release / INCOMPLETE / PLAN, "a release in the making")
        names = sorted((release / INCOMPLETE).glob("part-*.json"))
        notes = {int(path.stem.partition("-")[2]): disk.read_json(path, "a part") for path in names}
    except RunError:  # completed in the meantime, or not begun
        return None
    there = {part: note for part, note in notes.items() if (release / note["file"]).is_file()}
    return there, n_parts(plan)
