"""Two steps side by side: order, bounds, errors, an early end."""

from __future__ import annotations

import threading
import time

import pytest

from edge_fgr.staged import staged_map


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("slow", ["first", "second", "neither"])
def test_results_come_in_order(workers, slow):
    def first(i):
        time.sleep(0.002 * (i % 3) if slow == "first" else 0)
        return i * 10

    def second(i):
        time.sleep(0.002 * (i % 4) if slow == "second" else 0)
        return i + 1

    found = list(staged_map(first, second, iter(range(80)), workers))
    assert found == [i * 10 + 1 for i in range(80)]


@pytest.mark.parametrize("workers", [2, 4])
def test_memory_is_bounded(workers):
    taken = 0

    def items():
        nonlocal taken
        for i in range(200):
            taken += 1
            yield i

    results = staged_map(lambda i: i, lambda i: i, items(), workers)
    for i, found in enumerate(results):
        assert found == i
        time.sleep(0.001)
        assert taken <= i + 1 + 4 * workers


@pytest.mark.parametrize("where", ["first", "second", "items"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_in_its_place(where, workers):
    def fail(i):
        if i == 7:
            raise ValueError("seven")
        return i

    def items():
        for i in range(20):
            yield fail(i) if where == "items" else i

    steps = [fail if where == name else (lambda i: i) for name in ("first", "second")]
    seen = []
    with pytest.raises(ValueError, match="seven"):
        for found in staged_map(*steps, items(), workers):
            seen.append(found)  # noqa: PERF402  what came before the error is looked at
    assert seen == list(range(7))


def test_an_early_end_leaves_no_thread():
    before = threading.active_count()
    results = staged_map(lambda i: i, lambda i: i, iter(range(10_000)), 3)
    assert [next(results) for _ in range(5)] == list(range(5))
    results.close()
    assert threading.active_count() == before


def test_one_kind_of_work_keeps_all_threads_busy():
    """Where only the first step takes time, the threads of the second help."""
    seen = set()

    def first(i):
        seen.add(threading.current_thread().name)
        time.sleep(0.01)
        return i

    list(staged_map(first, lambda i: i, range(40), 2))
    assert len(seen) == 2
