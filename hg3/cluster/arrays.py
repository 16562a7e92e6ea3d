"""Which arrays do what is missing of a work: what each waits for, and how many of its tasks run at once."""

from collections.abc import Iterator, Sequence

from hg3.cluster import slurm
from hg3.cluster.state import Piece
from hg3.cluster.works import Array, Stage, Work

Step = tuple[str, int]


def plan_arrays(work: Work, missing: Sequence[Piece], submission: str) -> Iterator[Array]:
    """Yield the arrays that do what is missing; on SLURM no longer than it allows, elsewhere a single one.

    Of more arrays of a stage than tasks may run at once, the later ones wait for earlier ones.
    """
    prefix, number = f"hg3-{work.id}-{int(submission.rpartition('-')[2])}", 0
    if work.cluster != "slurm":
        yield Array(f"{prefix}-1", tuple(_in_turn(work, missing)))
        return
    largest = slurm.largest_array()
    before: list[str] = []
    for stage in work.stages:
        steps = [(piece.stage.name, piece.index) for piece in missing if piece.stage.name == stage.name]
        names: list[str] = []
        for first in range(0, len(steps), largest):
            number += 1
            ahead = names[-stage.profile.parallel :][:1] if len(names) >= stage.profile.parallel else []
            names.append(f"{prefix}-{number}")
            jobs = tuple((step,) for step in steps[first : first + largest])
            yield Array(names[-1], jobs, (*before, *ahead))
        before = names or before


def _in_turn(work: Work, missing: Sequence[Piece]) -> list[tuple[Step, ...]]:
    """Return the pieces shared among as many processes as may run at once; those of several stages all in one."""
    steps = [(piece.stage.name, piece.index) for piece in missing]
    several = len(work.stages) > 1 or work.cluster == "debug"
    jobs = 1 if several else min(work.stages[0].profile.parallel, len(steps))
    return [tuple(steps[first::jobs]) for first in range(jobs)]


def stage_of(work: Work, array: Array) -> Stage:
    """Return the stage that an array is of, which on SLURM is one."""
    return work.stage(array.jobs[0][0][0])


def at_once(work: Work, arrays: Sequence[Array], array: Array) -> int:
    """Return how many tasks of an array may run at once, so that its stage keeps to `parallel` with all its arrays."""
    stage = stage_of(work, array)
    mine = [other.name for other in arrays if stage_of(work, other) == stage]
    place, parallel = mine.index(array.name), stage.profile.parallel
    return max(parallel // len(mine) + (place < parallel % len(mine)), 1)


def held_back(work: Work, found: Sequence[Piece]) -> list[Piece]:
    """Return the pieces that wait in the queue for an earlier stage of which something is missing.

    What they wait for are the arrays that did not do it, so they have to be submitted again.
    """
    order = [stage.name for stage in work.stages]
    missing = [order.index(piece.stage.name) for piece in found if piece.state in ("lost", "failed")]
    first = min(missing, default=len(order))
    return [piece for piece in found if piece.state == "waiting" and order.index(piece.stage.name) > first]


def active_before(work: Work, found: Sequence[Piece], stage: Stage) -> list[str]:
    """Return the ids of the arrays of earlier stages that wait or run."""
    earlier = [other.name for other in work.stages[: work.stages.index(stage)]]
    jobs = {p.job for p in found if p.stage.name in earlier and p.state in ("running", "waiting")}
    return sorted({job.partition("_")[0] for job in jobs if job})
