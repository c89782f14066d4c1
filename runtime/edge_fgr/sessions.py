"""From a model's name to an open session of onnxruntime, on the device that was asked for.

What the file says about itself is read later, in ``model``: so little is imported here that opening
can begin while the rest is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from edge_fgr import optimised
from edge_fgr.digests import digest_of
from edge_fgr.errors import (
    DeviceError,
    InputMissingError,
    ModelError,
    PermissionDeniedError,
    UnavailableError,
    UsageError,
)
from edge_fgr.session_options import options_of, unusable

__all__ = [
    "DEFAULT",
    "Device",
    "Opened",
    "embedded",
    "find",
    "import_runtime",
    "open_session",
]

DEFAULT = "grocery81"
"""Name of the embedded model that is used when none is given."""

Device = Literal[
    "auto",
    "cpu",
    "cuda",
    "tensorrt",
    "openvino",
    "coreml",
    "directml",
    "qnn",
    "rocm",
    "xnnpack",
]


class Opened(NamedTuple):
    """A session and where it comes from.

    Attributes:
        path: the model's file.
        digest: its SHA-256, in hexadecimal.
        device: what really runs it, never ``auto``.
        share: share of the convolutions and matrix products that run there.
        session: onnxruntime's.
    """

    path: Path
    digest: str
    device: str
    share: float
    session: Any


def import_runtime() -> None:
    """Import onnxruntime, which takes half of a start.

    Raises:
        UnavailableError: it is not installed, or damaged.
    """
    try:
        import onnxruntime as ort

        ort.disable_telemetry_events()
    except (ImportError, AttributeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UnavailableError(
            f"onnxruntime cannot be imported ({cause}); see edge-fgr doctor"
        ) from None


def embedded() -> dict[str, Path]:
    """Return the models inside this package by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.onnx"))}


def find(path_or_name: str | os.PathLike[str] | None) -> Path:
    """Return the file of a model: a path, the name of an embedded one, or None for the default.

    Raises:
        InputMissingError: there is neither such a file nor such a name.
    """
    name = DEFAULT if path_or_name is None else os.fspath(path_or_name)
    path = Path(name)
    if path.exists():
        return path
    known = embedded()
    if name in known:
        return known[name]
    raise InputMissingError(
        f"{name}: no such model; give a .onnx file or one of: {', '.join(known) or '(none)'}"
    )


def open_session(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    device: Device = "auto",
    device_options: Mapping[str, str] | None = None,
    threads: int = 1,
    cache: bool = False,
    lean: bool = False,
) -> Opened:
    """Open a session; arguments and errors are those of ``edge_fgr.model.open_model``.

    Args:
        path_or_name: as there.
        device: as there.
        device_options: as there.
        threads: as there.
        cache: as there.
        lean: for single images on the CPU: memory grows by what is asked for, not by powers of two.
            It takes 4 MiB less; batches would take more.
    """
    if device not in get_args(Device):
        raise UsageError(f"device {device!r} is not known; known: {', '.join(get_args(Device))}")
    if threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if device_options and device in ("auto", "cpu"):
        raise UsageError(
            f"device options: {device} takes none; name the device that they are for, and give "
            "threads by their own option"
        )
    path = find(path_or_name)
    digest = _digest(path, noted=cache)
    kept = digest if cache else None
    session, active, share = _session(path, device, device_options, threads, kept, lean)
    return Opened(path, digest, active, share, session)


def _digest(path: Path, *, noted: bool) -> str:
    try:
        return digest_of(path, noted=noted)
    except PermissionError:
        raise PermissionDeniedError(f"{path}: may not be read; check its permissions") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, not a model; give a .onnx file") from None
    except OSError as error:
        raise ModelError(f"{path}: reading failed ({error.strerror}); copy it again") from None


def _session(
    path: Path,
    device: Device,
    given: Mapping[str, str] | None,
    threads: int,
    kept: str | None,
    lean: bool,
) -> tuple[Any, str, float]:
    """Return a session, the device that runs it, and its share of the layers.

    ``kept`` is the model's digest where graphs and engines may be kept.
    """
    import_runtime()
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    strict = device not in ("auto", "cpu")
    if strict or (device == "auto" and "CUDAExecutionProvider" in ort.get_available_providers()):
        from edge_fgr import providers  # takes a millisecond that the plain CPU does not need

        name = device if strict else "cuda"
        try:
            session, share = providers.open_session(
                path, name, options=given, threads=threads, digest=kept
            )
        except DeviceError:
            if strict:
                raise
        else:
            return session, name, share
    options = options_of(threads)
    if lean:
        _grow_by_need(options)
    try:
        if kept:
            return optimised.open_session(path, options, kept), "cpu", 1.0
        cpu = ["CPUExecutionProvider"]
        return ort.InferenceSession(os.fspath(path), options, providers=cpu), "cpu", 1.0
    except Exception as error:  # onnxruntime raises a class of its own per status
        raise unusable(path, error) from None


def _grow_by_need(options: Any) -> None:
    """Let the session share an arena of the process that grows by what is asked for."""
    import onnxruntime as ort

    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    try:
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, 1, -1, -1))
    except Exception:  # there is one already, or this onnxruntime has no such thing: as ever
        return
    options.add_session_config_entry("session.use_env_allocators", "1")
