"""What is submitted of a work, without a cluster: to wait for what, in arrays of how many at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hg3.cluster import slurm, works
from hg3.cluster.arrays import at_once, plan_arrays
from hg3.cluster.profiles import Profile
from hg3.cluster.slurm import Seen
from hg3.cluster.state import pieces
from hg3.cluster.submit import resume, submit_missing
from hg3.cluster.works import Stage, Work, begin_work, read_arrays, read_work, submissions
from hg3.errors import ClusterError

Sent = tuple[str, int, tuple[str, ...]]  # an array: its first step's label, how many tasks, what it waits for


class Queue:
    """A SLURM that takes arrays, and says of their tasks what it is told to say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: dict[tuple[str, int], Seen] = {}
        self.sent: list[Sent] = []
        self.cancelled: list[str] = []
        self.next = 1
        monkeypatch.setattr(slurm, "largest_array", lambda: 8)
        monkeypatch.setattr(slurm, "tasks", lambda names: {key: s for key, s in self.said.items() if key[0] in names})
        monkeypatch.setattr(slurm, "cancel_tasks", self.cancelled.extend)
        monkeypatch.setattr("hg3.cluster.jobs.start", self.start)

    def start(self, cluster: str, folder: Path, name: str, jobs: Any, profile: Profile, after: Any = ()) -> list[str]:
        job, self.next = str(self.next), self.next + 1
        self.sent.append((jobs[0][0]["call"]["label"], len(jobs), tuple(after)))
        self.said |= {(name, place): Seen("waiting", job) for place in range(len(jobs))}
        return [f"{job}_{place}" for place in range(len(jobs))] if len(jobs) > 1 else [job]

    def say(self, **states: str) -> None:
        """Let every task of array `_JOB`, or task `_JOB_PLACE`, be in a state."""
        for key, seen in self.said.items():
            state = states.get(f"_{seen.job}_{key[1]}") or states.get(f"_{seen.job}")
            self.said[key] = seen._replace(state=state) if state else seen


def stages(folder: Path, *counts: int, **keys: Any) -> tuple[Stage, ...]:
    """Return stages named a, b, c of so many trainings each."""
    return tuple(
        Stage(
            name,
            "train",
            tuple({"out": str(folder / name / str(i)), "updates": 3, "label": f"{name}{i}"} for i in range(count)),
            Profile(**keys),
        )
        for name, count in zip("abc", counts, strict=False)
    )


def submitted(folder: Path, *counts: int) -> Work:
    work = begin_work(folder / "out", "slurm", stages(folder, *counts))
    submit_missing(work)
    return work


def names(work: Work) -> list[str]:
    return [f"{piece.name} {piece.state}" for piece in pieces(work)]


def test_each_stage_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(monkeypatch)
    submitted(tmp_path, 2, 1, 9)
    assert queue.sent == [("a0", 2, ()), ("b0", 1, ("1",)), ("c0", 8, ("2",)), ("c8", 1, ("2",))]


def test_what_waits_for_a_missing_stage_waits_for_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed is lost and another goes on: the scores are to wait for both, and the release for the scores."""
    queue = Queue(monkeypatch)
    work = submitted(tmp_path, 2, 2, 1)
    queue.say(_1_0="NODE_FAIL", _1_1="running")
    assert names(work) == ["a0 lost", "a1 running", "b0 waiting", "b1 waiting", "c0 waiting"]
    queue.sent = []
    assert [piece.name for piece in resume(tmp_path / "out")] == ["a0", "b0", "b1", "c0"]
    assert queue.cancelled == ["2_0", "2_1", "3"]
    assert queue.sent == [("a0", 1, ()), ("b0", 2, ("1", "4")), ("c0", 1, ("1", "5"))]


def test_missing_stage_does_not_wait_for_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score is lost while the release waits: it must not wait for the release, which would be made without it."""
    queue = Queue(monkeypatch)
    work = submitted(tmp_path, 1, 2, 1)
    queue.say(_1="running", _2_0="CANCELLED", _2_1="waiting")
    queue.sent = []
    assert [piece.name for piece in resume(tmp_path / "out")] == ["b0", "c0"]
    assert queue.cancelled == ["3"]
    assert queue.sent == [("b0", 1, ("1",)), ("c0", 1, ("1", "2", "4"))]
    assert names(work) == ["a0 running", "b0 waiting", "b1 waiting", "c0 waiting"]


def test_what_runs_of_a_later_stage_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(monkeypatch)
    submitted(tmp_path, 1, 1)
    queue.say(_1="FAILED", _2="running")
    assert [piece.name for piece in resume(tmp_path / "out")] == ["a0"]
    assert queue.cancelled == []


def test_held_task_leaves_the_queue_before_it_is_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(monkeypatch)
    submitted(tmp_path, 2)
    queue.say(_1_1="held")
    assert [piece.name for piece in resume(tmp_path / "out")] == ["a1"]
    assert queue.cancelled == ["1_1"]


@pytest.mark.parametrize(
    ("tasks", "parallel", "shares"),
    [(8, 5, [5]), (12, 5, [3, 2]), (19, 64, [22, 21, 21]), (19, 2, [1, 1, 1]), (19, 1, [1, 1, 1])],
)
def test_arrays_of_a_stage_share_what_may_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int, parallel: int, shares: list[int]
) -> None:
    Queue(monkeypatch)
    work = begin_work(tmp_path / "out", "slurm", stages(tmp_path, tasks, 1, parallel=parallel))
    arrays = list(plan_arrays(work, pieces(work), "submission-0001"))
    mine = [array for array in arrays if array.jobs[0][0][0] == "a"]
    assert [at_once(work, arrays, array) for array in mine] == shares
    order = [array.name for array in mine]
    free = [place for place, array in enumerate(mine) if not array.after]  # at once; each other waits for one of them
    assert sum(shares[place] for place in free) <= parallel
    assert [order.index(name) for array in mine for name in array.after] == list(range(len(mine) - len(free)))
    assert arrays[-1].after == tuple(order) and at_once(work, arrays, arrays[-1]) == parallel


def test_of_two_submissions_at_once_the_first_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found the place free; the work of the first one has its id in the names of its jobs."""
    monkeypatch.setattr(works, "check_free", lambda out, cluster: None)
    first = begin_work(tmp_path / "out", "slurm", stages(tmp_path, 2))
    with pytest.raises(ClusterError, match="holds a submission already; look at it with hg3 jobs"):
        begin_work(tmp_path / "out", "local", stages(tmp_path, 3))
    assert read_work(tmp_path / "out") == first


def test_other_settings_are_for_what_is_submitted_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(monkeypatch)
    work = submitted(tmp_path, 1, 1)
    queue.say(_1="TIMEOUT")
    found = []

    def start(*given: Any) -> list[str]:
        found.append(given[4].minutes)
        return Queue.start(queue, *given)

    monkeypatch.setattr("hg3.cluster.jobs.start", start)
    resume(tmp_path / "out", {"minutes": "600"})
    assert found == [600, 600] and len(submissions(work)) == 2
    assert [array.ids for array in read_arrays(submissions(work)[1])] == [("3",), ("4",)]
    assert read_work(tmp_path / "out").stages == tuple(
        replace(stage, profile=Profile(minutes=600)) for stage in work.stages
    )
