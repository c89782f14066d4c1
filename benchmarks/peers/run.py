"""Other ways to run the same classifier, side by side with edge-fgr: same images, same machine.

    python benchmarks/peers/run.py [--model M.onnx] [--tflite F] [--images FOLDER] [--only a,b]
                                   [--rounds N] [--venvs .venv-peers] [--json F] [--docs PAGE]

`make bench-peers` makes an environment for each peer first. Peers take turns in rounds:

- cold: a fresh process which classifies one photo, wall time and peak memory;
- one image: file to label in a process that stays, one photo after the other, one thread where the
  peer can be told so; then the peak memory of that process;
- folder: all images with the threads and batches that are usual with the peer, on all cores.

Ratios compare within a round. A peer that is not set up, or fails, says why in its row; the others
go on, and what was measured is written after every stage. Linux only.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from os import environ
from pathlib import Path
from typing import Any

from child import last_words
from feedable import write_feedable
from report import Row, markdown, rows, table, told_in
from roster import OURS, PEERS, Peer
from samples import Samples, cold, warm_and_folder

from edge_fgr.contract import Contract
from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr.model import DEFAULT, embedded, open_model
from edge_fgr.parallel import cores
from edge_fgr.prediction import ModelId
from edge_fgr.progress import say
from edge_fgr.sources import walk
from edge_fgr_bench.install import PHOTOS, ROOT, weigh
from edge_fgr_bench.told import parser_of, told

__all__: list[str] = []

_HERE = Path(__file__).parent

_LEAST_FOLDER = 128
"""Images of a turn at least: a small folder is gone through more than once."""

_MOST_PHOTOS = 32
"""Of these, spread over the folder, consists a turn of single images."""

_VERSIONS = """
import importlib.metadata, json
every = importlib.metadata.distributions()
print(json.dumps({one.metadata["Name"]: one.version for one in every}))
"""


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured, and what is known of it so far."""

    model: Path
    id: ModelId
    contract: Contract
    images: tuple[str, ...]
    rounds: int
    network: str
    found: dict[str, Samples]

    @property
    def folder(self) -> tuple[str, ...]:
        """The images, as often as makes a turn long enough to measure."""
        return self.images * -(-_LEAST_FOLDER // len(self.images))

    @property
    def photos(self) -> tuple[str, ...]:
        """Some of the images, spread over all."""
        return self.images[:: -(-len(self.images) // _MOST_PHOTOS)]

    def rows(self) -> list[Row]:
        return rows(self.found, len(self.folder))

    def document(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        settings = {"rounds": self.rounds, "folder_images": len(self.folder)}
        return {
            "schema_version": 1,
            "kind": "peers",
            "host": _host(),
            "model": {**asdict(self.id), "target": self.contract.target, "network": self.network},
            "settings": {**settings, "photos": list(self.photos), "images": list(self.images)},
            "figures": [asdict(row) for row in self.rows()],
            "samples": {name: asdict(samples) for name, samples in self.found.items()},
        }

    def heading(self) -> str:
        """Return how the tables were made."""
        host = _host()
        return (
            f"{host['cpu']}, {host['cores']} cores, Python {host['python']}; "
            f"{self.id.name} version {self.id.version} ({self.contract.target}), "
            f"{self.contract.geometry.size} pixels; {len(self.images)} images, "
            f"{self.rounds} rounds. {self._versions()}"
        )

    def _versions(self) -> str:
        wanted = ("onnxruntime", "openvino", "ai-edge-litert", "torch", "timm", "ultralytics")
        every = {k.lower(): v for one in self.found.values() for k, v in one.versions.items()}
        shown = [f"{name} {every[name]}" for name in wanted if name in every]
        return f"Versions: {', '.join(shown)}." if shown else ""


@told
def main() -> int:
    """Run for the command line; a failure that can be expected is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, default=embedded()[DEFAULT], help="an edge-fgr model")
    parser.add_argument("--tflite", type=Path, help="the model for LiteRT; else it is made")
    parser.add_argument("--network", default="efficientnet_lite0", help="for PyTorch, timm's name")
    parser.add_argument("--images", type=Path, default=PHOTOS, help="a folder of photos")
    parser.add_argument("--only", help="names of environments or peers, with commas between")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--json", type=Path, help="write all samples and figures")
    parser.add_argument("--docs", type=Path, help="write the tables between the markers of a page")
    options = parser.parse_args()
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}: at least 1 is needed")
    images = tuple(str(Path(p).absolute()) for p in walk(str(options.images)) if isinstance(p, str))
    if not images:
        raise UsageError(f"{options.images}: no images; give another folder")
    if options.tflite and not options.tflite.exists():
        raise InputMissingError(f"{options.tflite}: no such file; check the path")
    peers = _wanted(options.only)
    model = open_model(options.model, device="cpu")
    bench = _Bench(
        options.model.absolute(),
        model.id,
        model.contract,
        images,
        options.rounds,
        options.network,
        {peer.name: Samples() for peer in peers},
    )

    def keep() -> None:
        if options.json:
            text = json.dumps(bench.document(), ensure_ascii=False, indent=1)
            atomic_write(options.json, text + "\n")

    try:
        _measure(bench, peers, options.venvs, options.tflite, keep)
    except KeyboardInterrupt:
        say("stopped: what was measured until now is kept")
    keep()
    print(table(bench.rows()))
    if options.docs:
        told_in(options.docs, markdown(bench.rows(), bench.heading()))
    return 0


def _wanted(only: str | None) -> list[Peer]:
    """Return the peers that were asked for, ours always among them.

    Raises:
        UsageError: a name is nobody's.
    """
    if only is None:
        return list(PEERS)
    names = {name.strip() for name in only.split(",")}
    known = {peer.name for peer in PEERS} | {peer.environment for peer in PEERS}
    if unknown := sorted(names - known):
        raise UsageError(f"--only {', '.join(unknown)}: unknown; known: {', '.join(sorted(known))}")
    return [peer for peer in PEERS if names & {peer.name, peer.environment} or peer.name == OURS]


def _measure(
    bench: _Bench, peers: Sequence[Peer], venvs: Path, tflite: Path | None, keep: Callable[[], None]
) -> None:
    """Fill the samples of all peers, stage by stage."""
    found = bench.found
    for peer in peers:
        _look(peer, venvs, found[peer.name])
    keep()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        environ["EDGE_FGR_CACHE"] = str(scratch / "cache")  # the user's own is left as it is
        feedable = scratch / "feedable.onnx"
        try:
            write_feedable(bench.model, bench.contract, feedable)
        except Exception as error:  # onnx raises what it likes; the one who needs it then fails
            say(f"{bench.model}: no float input can be put before it ({error})")
        for peer in peers:
            if peer.tflite and tflite is None and not found[peer.name].failed:
                tflite = scratch / "model.tflite"
                found[peer.name].failed = _write_tflite(bench.model, tflite)
        spec = scratch / "spec.json"
        made = _spec(bench, scratch, feedable if feedable.exists() else None, tflite)
        spec.write_text(json.dumps(made), encoding="utf-8")
        photo = Path(bench.photos[0])
        once = {peer.name: peer.once(venvs, spec, bench.model, photo) for peer in peers}
        serve = {peer.name: peer.serve(venvs, spec) for peer in peers}
        cold(once, found, bench.rounds)
        keep()
        warm_and_folder(
            serve,
            found,
            bench.rounds,
            photos=bench.photos,
            folder=bench.folder,
            scratch=scratch,
            keep=keep,
        )


def _write_tflite(model: Path, out: Path) -> str:
    """Write the model for LiteRT; return why that failed, or nothing."""
    command = [sys.executable, str(_HERE / "make_tflite.py"), str(model), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"left out: no --tflite, and none could be made: {last_words(done.stderr)}"
    return ""


def _look(peer: Peer, venvs: Path, samples: Samples) -> None:
    """Weigh a peer's environment and list what is in it."""
    python = peer.python(venvs)
    command = [str(python), "-c", _VERSIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError:
        samples.failed = f"not set up: no environment {peer.environment}; make bench-peers"
        return
    except subprocess.CalledProcessError as error:
        samples.failed = f"failed: {python} ended with code {error.returncode}"
        return
    samples.versions = dict(sorted(json.loads(done.stdout).items()))
    samples.install_bytes = weigh(python)


def _spec(
    bench: _Bench, scratch: Path, feedable: Path | None, tflite: Path | None
) -> dict[str, Any]:
    """Return what ``harness.Spec`` reads."""
    geometry = bench.contract.geometry
    return {
        "model": str(bench.model),
        "feedable": feedable and str(feedable),
        "tflite": tflite and str(tflite.absolute()),
        "network": bench.network,
        "labels": ["/".join(label) for label in bench.contract.labels],
        "size": geometry.size,
        "short_side": geometry.short_side,
        "resize": geometry.resize,
        "kernel": geometry.kernel,
        "exif": geometry.exif,
        "roi": geometry.roi,
        "cores": cores(),
        "scratch": str(scratch),
    }


def _host() -> dict[str, Any]:
    return {
        "cpu": _cpu() or platform.processor() or platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "")


if __name__ == "__main__":
    sys.exit(main())
