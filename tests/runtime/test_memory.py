"""What malloc was told holds: counted by malloc itself, in processes of their own."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has it")

THREADS = """
import ctypes, sys, threading
from edge_fgr import memory
getattr(memory, sys.argv[1])() if sys.argv[1:] else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
together = threading.Barrier(4)
def take():
    together.wait()
    libc.malloc(5000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
stream = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""

BLOCKS = """
import ctypes, sys
from edge_fgr import memory
getattr(memory, sys.argv[1])() if sys.argv[1:] else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(1 << 24))  # raises the threshold, where it is not fixed
size = ctypes.c_size_t.from_address(libc.malloc(1 << 20) - 8).value
print(size & 2)  # the bit of a block that was mapped by itself
"""

# What classify_many frees is large and lies below blocks that stay: only trimming gives it back.
GIVEN = """
import ctypes, sys
from edge_fgr import Classifier
from edge_fgr.image import load
classifier = Classifier.load(device="cpu")
pixels = load(sys.argv[1], classifier.contract.geometry)
list(classifier.classify_many([pixels] * 80, channels="rgb", workers=2))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmRSS" in line)
blocks = [libc.malloc(60000) for _ in range(600)]
[ctypes.memset(block, 1, 60000) for block in blocks]
[libc.free(block) for block in blocks[:-1]]  # the last one stays, above them
before = resident()
list(classifier.classify_many([pixels] * 10, channels="rgb", workers=2))
short = resident()
list(classifier.classify_many([pixels] * 80, channels="rgb", workers=2))
assert short > before - 4000 and resident() < before - 25000, (before, short, resident())
"""


def said(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_threads_share_one_arena():
    assert said(THREADS).count("<heap nr=") > 1
    assert said(THREADS, "one_arena").count("<heap nr=") == 1


def test_large_blocks_go_back_to_the_system():
    assert said(BLOCKS).strip() == "0"
    assert said(BLOCKS, "spare_memory").strip() == "2"


def test_a_run_of_many_images_gives_memory_back(photos):
    done = subprocess.run(
        [sys.executable, "-c", GIVEN, str(photos[0])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_another_c_library_is_left_alone(monkeypatch):
    from edge_fgr import memory

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.one_arena()
    memory.spare_memory()
    memory.give_back()
