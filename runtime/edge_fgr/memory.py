"""glibc's allocator, told what kind of process this is. Other C libraries are left as they are.

Settings hold for all code of a process: the command line makes them, a library must not. Standard
library only.
"""

from __future__ import annotations

__all__ = ["give_back", "one_arena", "spare_memory"]

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""``M_MMAP_THRESHOLD`` and ``M_ARENA_MAX`` of malloc.h."""


def spare_memory() -> None:
    """For a process that classifies one image: give large blocks back when they are free.

    glibc keeps them for the next time otherwise, 2 MiB here. With very many images the system would
    have to clear their pages again and again: a fifth of the throughput.
    """
    _mallopt(_MMAP_THRESHOLD, 1 << 16)


def one_arena() -> None:
    """For a process that classifies very many images: let all threads share one arena.

    glibc gives threads arenas of their own, and what is free in one is of no use in another: 4 MiB.
    Call it once, before threads are started.
    """
    _mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Give pages that hold nothing to the system: after a run of many images, in 0.4 ms.

    Threads leave their arenas in pieces, which fill up with free pages.
    """
    import ctypes  # numpy imports it anyway

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def _mallopt(parameter: int, value: int) -> None:
    import ctypes

    try:
        ctypes.CDLL(None).mallopt(parameter, value)
    except (AttributeError, OSError, TypeError):
        return
