"""Devices other than the plain CPU: onnxruntime's providers, strictly.

onnxruntime falls back in silence: when a provider cannot start, when it takes none of a graph's
nodes (it is first in ``get_providers()`` all the same), and when it fails in the middle. Here each
of these is a ``DeviceError``: what was asked for runs most of the graph's layers, or nothing does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_fgr import engines
from edge_fgr.devices import FOLDER, PROVIDERS, Provider, remedy
from edge_fgr.errors import DeviceError, EdgeFgrError, UsageError
from edge_fgr.session_options import options_of, unusable

__all__ = ["open_session", "parse_options", "present"]

_CPU = "CPUExecutionProvider"

_LAYERS = ("Conv", "Gemm", "MatMul")
"""Operators that have these words in their names are where the time goes."""

_FORBIDDEN = "fallback to CPU EP has been explicitly disabled"
"""What onnxruntime raises where a provider that must take the whole graph does not."""

_INACTIVE = "it does not take the graph, or was dropped without a word"

_LEAST = 0.5
"""Share of the layers below which a device does not run the model, but helps."""


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """Return options given as ``KEY=VALUE``.

    Raises:
        UsageError: one has no ``=`` or no key, or a key comes twice.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--device-option {pair}: give KEY=VALUE, such as device_id=0")
        if key in options:
            raise UsageError(f"--device-option {key}: is given twice")
        options[key] = value.strip()
    return options


def present() -> tuple[str, ...]:
    """Return the devices that this onnxruntime was built for, the CPU first; none may work."""
    import onnxruntime as ort

    available = ort.get_available_providers()
    return tuple(d for d, row in PROVIDERS.items() if any(n in available for n in row.names))


def open_session(
    path: Path,
    device: str,
    *,
    options: Mapping[str, str] | None = None,
    threads: int = 1,
    digest: str | None = None,
) -> tuple[Any, float]:
    """Open a session on a device other than the CPU; return it and the share of layers it runs.

    Args:
        path: the model.
        device: a key of ``PROVIDERS``.
        options: for the provider; they replace ours.
        threads: inside one inference, where the provider has a word in that.
        digest: SHA-256 of the file where compiled engines may be kept, else None.

    Raises:
        DeviceError: the device is not there, cannot start, or runs too little of the graph.
        UsageError: it starts, but not with these options.
        ModelError: the file is no model.
    """
    import onnxruntime as ort

    row, own = PROVIDERS[device], dict(options or {})
    available = ort.get_available_providers()
    name = next((name for name in row.names if name in available), None)
    if name is None:
        raise DeviceError(f"{device}: this onnxruntime has no {row.names[0]}; {remedy(device)}")
    if device in ("cuda", "tensorrt"):
        _preload()
    ours = dict(row.options) | ({row.threads: str(threads)} if row.threads else {})
    folder = engines.folder(device, digest, ort.__version__) if digest and row.folders else None
    kept = {k: v.replace(FOLDER, str(folder)) for k, v in row.folders.items()} if folder else {}
    behind = tuple(other for other in row.behind if other in available)
    try:
        session, cause = _started(path, name, kept | ours | own, behind, threads, row)
        if session is None and folder:
            session, cause = _started(path, name, ours | own, behind, threads, row)
            if session is not None:  # what was compiled is damaged: the next start makes it anew
                engines.forget(folder)
        if session is None:
            _check_model(path, threads)
            if own and _started(path, name, ours, behind, threads, row)[0]:
                raise _options_at_fault(device, own, cause)
            cause = _missing_library(row) or cause or _INACTIVE
            raise DeviceError(
                f"{device}: onnxruntime could not start it ({cause}); check its driver and "
                "libraries (edge-fgr doctor), or choose --device cpu"
            )
    finally:
        if folder:
            engines.tidy()
    share = _share(session, name, row)
    if share < _LEAST:
        raise DeviceError(
            f"{device}: {name} would run {share:.0%} of the layers of {path.name}, and the CPU "
            "the others; export the model for this device, or choose --device cpu"
        )
    return session, share


def _started(
    path: Path,
    name: str,
    options: Mapping[str, str],
    behind: tuple[str, ...],
    threads: int,
    row: Provider,
) -> tuple[Any | None, str]:
    """Return a session in which the provider is active; else None and what it raised.

    A provider that was dropped without a word has raised nothing: the text is empty then.
    """
    import onnxruntime as ort

    wanted = options_of(threads)
    wanted.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if row.whole or not _tells(ort):
        wanted.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if name == "DmlExecutionProvider":  # both are conditions of it
        wanted.enable_mem_pattern = False
        wanted.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    providers: list[Any] = [(name, dict(options))]
    providers += behind if _tells(ort) else ()
    try:
        # Without this, a failure in the middle is answered by a second session on the CPU.
        session = ort.InferenceSession(
            os.fspath(path), wanted, providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime raises a class of its own per status
        return None, "" if _FORBIDDEN in str(error) else _cause(error)
    return (session if session.get_providers()[0] == name else None), ""


def _options_at_fault(device: str, options: Mapping[str, str], cause: str) -> EdgeFgrError:
    """Return the error for a device that starts without the user's options, but not with them."""
    given = ", ".join(f"{key}={value}" for key, value in options.items())
    if cause:
        return UsageError(f"{device}: refuses {given} ({cause}); correct --device-option")
    return DeviceError(
        f"{device}: is not active with {given}, and is without; check that what it names is "
        "there, or correct --device-option"
    )


def _tells(ort: Any) -> bool:
    """Return whether this onnxruntime can say which provider runs which nodes (1.24 and later)."""
    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def _share(session: Any, name: str, row: Provider) -> float:
    """Return the share of convolutions and matrix products that a provider runs.

    An onnxruntime that cannot say was told to raise if it did not run everything.
    """
    import onnxruntime as ort

    if not _tells(ort):
        return 1.0
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        layers = sum(any(layer in node.op_type for layer in _LAYERS) for node in part.get_nodes())
        counts[part.ep_name] = counts.get(part.ep_name, 0) + layers
    mine = counts.get(name, 0)
    if row.whole and counts.keys() == {name}:
        return 1.0
    return mine / max(sum(counts.values()), 1)


def _check_model(path: Path, threads: int) -> None:
    """Raise ModelError if not even the CPU takes the file: then the device is not to blame."""
    import onnxruntime as ort

    try:
        ort.InferenceSession(os.fspath(path), options_of(threads), providers=[_CPU])
    except Exception as error:
        raise unusable(path, error) from None


def _preload() -> None:
    """Load the CUDA and cuDNN that pip installed, which the system's loader does not find."""
    import contextlib
    import io

    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):  # from 1.21 on; it prints what it misses, and so do we later
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            ort.preload_dlls()


def _missing_library(row: Provider) -> str | None:
    """Return what the system's loader says of a provider's library; None if it says nothing."""
    import ctypes

    import onnxruntime as ort

    kind = "{}.dll" if sys.platform == "win32" else "lib{}.so"
    capi = Path(ort.__file__).parent / "capi"
    library = capi / kind.format(f"onnxruntime_providers_{row.library}")
    if row.library is None or not library.exists():
        return None
    try:
        ctypes.CDLL(str(capi / kind.format("onnxruntime_providers_shared")), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return _cause(error)
    return None


def _cause(error: Exception) -> str:
    """Return what onnxruntime says went wrong, without the places in its code."""
    text = " ".join(str(error).split()).rpartition("&) ")[2]
    return text if len(text) <= 200 else f"... {text[-196:]}"
