"""What does each ingredient of a recipe bring? Every variant of a plan, trained with several seeds.

    python -m edge_fgr_bench.ablate SHARED OUT [--set-of NAME ...] [--variant NAME ...]
                                    [--seeds 0,1,2] [--jobs 2] [--plan PLAN.toml] [--table]

SHARED holds the folders that the plan names. The plan that comes along (``ablation.toml``) says
what is changed, and in words why. Each run is a process with its share of the processors; its
result is OUT/DATA/VARIANT/SEED.json. What is finished is not done again; what fails is told in one
line, and the others go on. ``--table`` prints what was found so far as Markdown, and runs nothing.

Times are compared between runs of the same ``--jobs`` on a machine that does nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_fgr.errors import UsageError
from edge_fgr.parallel import cores, ordered_map
from edge_fgr.progress import one_line, progress, say
from edge_fgr_bench.ablation import BASE, DataSet, Plan, Variant, Work, images_for
from edge_fgr_bench.ablation_table import to_markdown
from edge_fgr_bench.told import parser_of, told
from edge_fgr_train.recipe import load_recipe

__all__ = ["PLAN", "run_all"]

PLAN = Path(__file__).with_name("ablation.toml")
"""The plan that comes along."""

Named = TypeVar("Named", DataSet, Variant)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A run that ended; ``failure`` is empty where it wrote its result."""

    work: Work
    failure: str


def run_all(works: Sequence[Work], shared: Path, lists: Path, out: Path, jobs: int = 2) -> int:
    """Run what has no result yet, ``jobs`` processes at a time; return how many failed.

    Args:
        works: the runs, in the order to begin them.
        shared: folder that the data sets' folders are relative to.
        lists: folder of the lists of classes.
        out: folder of the results.
        jobs: how many at a time; each has so many times fewer processors.

    Raises:
        UsageError: a recipe cannot be meant; no run is begun then.
        EdgeFgrError: the images of a data set are not there, or not those of older results.
    """
    todo = [work for work in works if work.result(out) is None]
    for work in todo:
        load_recipe(work.plan.base.recipe, work.changes(out))
        if (teacher := work.teacher) and teacher not in todo and not teacher.run(out).exists():
            raise UsageError(
                f"{work.variant.name}: learns from {teacher.variant.name}, which is not run; add "
                f"--variant {teacher.variant.name}"
            )
    sets = {work.data.name: work.data for work in todo}
    indexes = {name: images_for(data, shared, lists, out) for name, data in sets.items()}
    threads = str(max(1, cores() // jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def run(work: Work) -> _Outcome:
        command = [sys.executable, "-m", "edge_fgr_bench.ablate_one"]
        command += [str(indexes[work.data.name]), str(work.file(out))]
        command += ["--recipe", work.plan.base.recipe]
        command += [word for change in work.changes(out) for word in ("--set", change)]
        command += ["--keep"] if work.variant.name in work.plan.teachers else []
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return _Outcome(work, one_line(last) if done.returncode else "")

    failed = 0
    with progress(len(todo), "runs") as advance:
        for taught in (False, True):  # teachers first
            part = [work for work in todo if bool(work.teacher) is taught]
            for outcome in ordered_map(run, part, jobs):
                work = outcome.work
                name = f"{work.data.name} {work.variant.name} {work.seed}"
                if outcome.failure:
                    failed += 1
                    say(f"{name}: failed: {outcome.failure}")
                advance(1, name)
    return failed


@told
def main(arguments: Sequence[str] | None = None) -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set-of", action="append", default=[], metavar="NAME", help="of images")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--table", action="store_true", help="print the table and run nothing")
    options = parser.parse_args(arguments)
    plan = Plan.read(options.plan)
    data = _chosen(plan.data, options.set_of)
    variants = _chosen(plan.variant, options.variant)
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {options.seeds}: whole numbers with commas, like 0,1") from None
    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: at least 1 is needed")
    if options.table:
        print(to_markdown(plan, options.out, data, variants, seeds), end="")
        return 0
    works = [Work(plan, d, v, seed) for seed in seeds for v in variants for d in data]
    failed = run_all(works, options.shared, options.plan.parent, options.out, options.jobs)
    if failed:
        say(f"{failed} of {len(works)} runs failed; run this again to try them once more")
    return 1 if failed else 0


def _chosen(known: Sequence[Named], names: Sequence[str]) -> list[Named]:
    """Return the named ones in the order of the plan, all without a name; the base always."""
    if strange := set(names) - {one.name for one in known}:
        there = ", ".join(one.name for one in known)
        raise UsageError(f"{min(strange)}: is not in the plan; known: {there}")
    return [one for one in known if not names or one.name in (*names, BASE)]


if __name__ == "__main__":
    sys.exit(main())
