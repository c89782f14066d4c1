"""Emulated processors for ``same_bits.py``: fetched into a cache, nothing installed.

Each step of the set-up is built under another name and renamed when it is whole; what is there is
not built again. README.md beside this file says what is fetched, and why.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_fgr.errors import UnavailableError
from edge_fgr.progress import say

__all__ = ["Platform", "emulated_platforms", "host_platforms", "last_line"]

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"

# Runs in the emulator even without ARM_MACHINE, where 1.30 and 1.32 crash. It stays beside the
# host's own release: on ``max`` it takes NEON's UMMLA where newer ones take SVE's.
ARM_ONNXRUNTIME = "1.24.4"
# numpy hands pixels and logits through unchanged, so any release does; Pillow must be the host's.
ARM_NUMPY = "2.4.6"
ARM_WHEELS = tuple(f"manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014"))

QEMU = ("qemu-x86_64-static", "qemu-aarch64-static")
# Where Debian itself comes from; other sources of the machine may lack ARM64.
DEBIAN_SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
ARM_PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
)
# qemu-user shows the host's /proc and /sys, and onnxruntime 1.30 and later crash where an ARM64
# process reads an x86 cpuinfo. With -L, files of the root stand in front of the host's. The part
# number is one that nobody knows: so kernels are chosen by HWCAP alone, which -cpu sets.
ARM_MACHINE = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x00\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x051\nCPU revision\t: 0\n\n",
    **{f"sys/devices/system/cpu/{name}": "0\n" for name in ("possible", "present", "online")},
}
# Packages come from where the system's own come from; nothing of its apt is changed, and its hooks,
# which clean /var, are taken out.
APT_CONF = """#clear APT::Architectures;
#clear APT::Update;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::State "{state}";
Dir::State::Lists "{state}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{state}";
Dir::Etc::SourceList "{sources}";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
"""


@dataclass(frozen=True, slots=True)
class Platform:
    """A processor, real or emulated: how Python starts there, and features it must (not) have."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    threads: int = 1
    batch: int = 1
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()


def host_platforms() -> list[Platform]:
    """Return the host, on 1 and 2 threads, image by image and 8 at a time."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QEMU_", "PYTHON", "OMP_"))
    }
    environment = {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{RUNTIME}"}
    return [
        Platform(f"host, threads {n}, batch {batch}", (sys.executable,), environment, n, batch)
        for n in (1, 2)
        for batch in (1, 8)
    ]


def emulated_platforms(host: Platform, cache: Path, versions: Mapping[str, str]) -> list[Platform]:
    """Fetch what is missing and return the emulated processors.

    Raises:
        UnavailableError: something is missing on this machine, or cannot be fetched.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UnavailableError("the emulators run on Linux on x86_64 only: use such a machine")
    with _locked(cache):
        x86, arm = _qemu(cache)
        root = _arm_root(cache)
        releases = dict.fromkeys((ARM_ONNXRUNTIME, versions["onnxruntime"]))
        sites = [_arm_site(cache, release, versions["pillow"]) for release in releases]
    haswell = (x86, "-cpu", "Haswell", *host.command)
    has, lacks = frozenset({"AVX2"}), frozenset({"AVX512F"})
    found = [Platform("x86-64 Haswell", haswell, host.environment, has=has, lacks=lacks)]
    for site in sites:
        # Built from nothing: the host's LD_LIBRARY_PATH or QEMU_LD_PREFIX would mislead it.
        environment = {
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHOME": f"{root}/usr",
            "PYTHONPATH": f"{site}:{RUNTIME}",
        }
        # Each chooses other INT8 kernels: SMULL; UDOT (Raspberry Pi 5); UMMLA, NEON's or SVE's.
        for cpu, has, lacks in (
            ("cortex-a72", frozenset({"ASIMD"}), frozenset({"ASIMDDP"})),
            ("cortex-a76", frozenset({"ASIMDDP"}), frozenset({"SVE"})),
            ("max", frozenset({"ASIMDDP", "SVE"}), frozenset()),
        ):
            # -S: site-packages of the host's /usr/local are not for this Python.
            command = (arm, "-L", f"{root}", "-cpu", cpu, f"{root}/usr/bin/python3.11", "-S")
            found.append(Platform(f"ARM64 {cpu}", command, environment, has=has, lacks=lacks))
    return found


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One set-up at a time in a cache: a second one waits for the first."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise UnavailableError(f"{cache}: cannot be written ({error.strerror or error})") from None


def _built(final: Path, what: str, build: Callable[[Path], None]) -> Path:
    """Return the folder ``final``; if it is not there, build it beside and rename it."""
    if not final.is_dir():
        say(f"set-up: {what}")
        part = final.with_name(f"{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a set-up that was interrupted
        part.mkdir()
        build(part)
        part.replace(final)
    return final


def _qemu(cache: Path) -> list[str]:
    """Return the emulators' paths: those installed, else Debian's, unpacked into the cache."""
    installed = [shutil.which(name) for name in QEMU]
    if all(installed):
        return [str(path) for path in installed]

    def build(part: Path) -> None:
        _unpack_debian("amd64", ("qemu-user-static",), part / "all")
        for name in QEMU:
            (part / "all/usr/bin" / name).replace(part / name)
        shutil.rmtree(part / "all")  # emulators of 30 other processors, 300 MB

    folder = _built(cache / "qemu", "qemu-user-static from Debian 12, 63 MB", build)
    return [str(folder / name) for name in QEMU]


def _arm_root(cache: Path) -> Path:
    """Return a folder with ARM64 Python 3.11, its libraries, and the machine's description."""

    def build(part: Path) -> None:
        _unpack_debian("arm64", ARM_PACKAGES, part)
        for name, content in ARM_MACHINE.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(content)

    recipe = hashlib.sha256(repr((ARM_PACKAGES, ARM_MACHINE)).encode()).hexdigest()
    return _built(cache / f"arm64-{recipe[:8]}", "ARM64 Python from Debian 12, 18 MB", build)


def _arm_site(cache: Path, onnxruntime: str, pillow: str) -> Path:
    """Return a folder with PyPI's ARM64 wheels of what the runtime needs."""

    def build(part: Path) -> None:
        wheels = part / ".wheels"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version=3.11", "--implementation=cp", "--dest", str(wheels)]
        command += [f"--platform={tag}" for tag in ARM_WHEELS]
        command += [f"onnxruntime=={onnxruntime}", f"pillow=={pillow}", f"numpy=={ARM_NUMPY}"]
        _fetch(command, part, "pip cannot fetch ARM64 wheels; it and PyPI are needed")
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(part)
        shutil.rmtree(wheels)

    name = f"site-onnxruntime{onnxruntime}-pillow{pillow}-numpy{ARM_NUMPY}"
    return _built(cache / name, f"ARM64 wheels with onnxruntime {onnxruntime}, 38 MB", build)


def _unpack_debian(arch: str, packages: Sequence[str], target: Path) -> None:
    """Fetch Debian 12 packages, checked against Debian's signature, and unpack them."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is missing: run this test on Debian 12")
    state = target / ".apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True)
    sources = next((path for path in DEBIAN_SOURCES if Path(path).exists()), "/dev/null")
    (state / "apt.conf").write_text(APT_CONF.format(arch=arch, state=state, sources=sources))
    remedy = "Debian 12's packages cannot be fetched; apt must be set up for it and reach it"
    for action in (("update",), ("download", *packages)):
        _fetch(["apt-get", "-q", "-c", f"{state}/apt.conf", *action], state, remedy)
    for package in sorted(state.glob("*.deb")):
        _fetch(
            ["dpkg-deb", "-x", str(package), str(target)], state, f"{package} cannot be unpacked"
        )
    shutil.rmtree(state)


def _fetch(command: Sequence[str], folder: Path, remedy: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{remedy} ({last_line(done.stderr)})")


def last_line(output: bytes) -> str:
    """Return what a program said last: its error, after all warnings."""
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")
