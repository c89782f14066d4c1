"""Run a model on one device for a try, in a process of its own: a broken driver may end it.

    python -m edge_fgr.trial DEVICE [MODEL]

One JSON object on stdout. The picture is made, not taken: what is asked is whether the device
computes what the CPU computes, not whether a label is right.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from edge_fgr.errors import EdgeFgrError

__all__ = ["Trial", "main", "run", "try_out"]

_SECONDS = 900
"""TensorRT may compile for minutes at its first start."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of running a model on a device.

    Attributes:
        device: its name.
        share: share of the model's layers that run there.
        open_ms: opening the model, in milliseconds; the first time includes compiling.
        run_ms: one inference, the fastest of a few, in milliseconds.
        difference: greatest difference of a logit to the CPU's, as a share of the CPU's range.
        error: why it cannot be used; the figures are None then.
    """

    device: str
    share: float | None = None
    open_ms: float | None = None
    run_ms: float | None = None
    difference: float | None = None
    error: str | None = None


def run(device: str, model: str | None = None) -> Trial:
    """Return what comes of running ``model`` on ``device``, tried in another process."""
    command = [sys.executable, "-m", "edge_fgr.trial", device, *([model] if model else [])]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
        return Trial(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Trial(device, error=f"{device}: did not come back within {_SECONDS} s")
    except OSError as error:
        return Trial(device, error=f"{device}: could not be tried ({error.strerror})")
    except (ValueError, TypeError, IndexError):
        code = done.returncode
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = done.stderr.decode(errors="replace").split()
        return Trial(device, error=f"{device}: ended the process ({end}) {' '.join(said[-25:])}")


def try_out(device: str, model: str | None = None) -> Trial:
    """Return what comes of running ``model`` on ``device``, tried in this process."""
    import time

    import numpy as np

    from edge_fgr.model import open_model

    try:
        before = time.perf_counter()
        opened = open_model(model, device=device)  # type: ignore[arg-type]
        open_ms = (time.perf_counter() - before) * 1e3
        size = opened.contract.geometry.size
        rows, columns = np.mgrid[:size, :size]
        waves = [127.5 + 127.5 * np.sin(rows / a + columns / b) for a, b in _WAVES]
        pixels = np.stack(waves, axis=-1).astype(np.uint8)[None]  # (1, size, size, 3)
        times = []
        for _ in range(5):
            before = time.perf_counter()
            logits = opened.run(pixels)
            times.append((time.perf_counter() - before) * 1e3)
        right = logits if device == "cpu" else open_model(model, device="cpu").run(pixels)
    except EdgeFgrError as error:
        return Trial(device, error=str(error))
    span = float(np.ptp(right)) or 1.0
    difference = float(np.abs(logits - right).max()) / span
    if not np.isfinite(logits).all():
        return Trial(device, error=f"{device}: its logits are no numbers")
    return Trial(
        opened.device,
        share=round(opened.share, 4),
        open_ms=round(open_ms, 3),
        run_ms=round(min(times), 3),
        difference=round(difference, 6),
    )


_WAVES = ((9.0, 31.0), (-17.0, 23.0), (41.0, -11.0))
"""Lengths along and across, one pair per colour: neither flat nor symmetric."""


def main() -> None:
    """Try the device and the model that the arguments name."""
    from dataclasses import asdict

    sys.stdout.write(json.dumps(asdict(try_out(*sys.argv[1:3]))) + "\n")


if __name__ == "__main__":
    main()
