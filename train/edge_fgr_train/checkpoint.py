"""A run's folder: weights as safetensors, everything else as JSON; no pickle anywhere.

RUN/contract.json       what the network will say about itself
RUN/run.json            recipe, data folder, and which images served for what
RUN/model.safetensors   the result: the averaged weights of the last finished epoch
RUN/base.onnx           instead of a backbone's weights: the exported model that a chain stands on
RUN/state.safetensors   weights, average and optimiser, to resume from
RUN/log.jsonl           one line an epoch
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edge_fgr.contract import Contract, build
from edge_fgr.errors import ContractError, InputMissingError, ModelError, UsageError
from edge_fgr.files import atomic_write
from edge_fgr_train.network import Network, build_network
from edge_fgr_train.recipe import Recipe
from edge_fgr_train.tiles import good_of

__all__ = [
    "RESULT",
    "Run",
    "epochs_of",
    "load_head",
    "load_network",
    "load_state",
    "rows_of",
    "save_head",
    "save_network",
    "save_state",
]

RESULT = ("run.json", "contract.json", "model.safetensors")
"""Files that a finished network is read from."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run was made of.

    Attributes:
        recipe: by which it was trained.
        data: the data set, as ``edge_fgr_train.catalog.open_dataset`` reads it.
        splits: those of its splits that hold the images.
        fit, evaluate, calibration: names of the images in the data set.
        base: name of the exported model in the folder whose head was replaced; else empty.
        source: the run that it was fine-tuned from; else empty.
    """

    recipe: Recipe
    data: str
    splits: tuple[str, ...]
    fit: tuple[str, ...]
    evaluate: tuple[str, ...]
    calibration: tuple[str, ...]
    base: str = ""
    source: str = ""

    def write(self, folder: Path) -> None:
        """Write ``run.json``."""
        atomic_write(folder / "run.json", json.dumps(asdict(self), indent=1, ensure_ascii=False))

    def refuse_other(self, folder: Path, contract: Contract | None = None) -> None:
        """Refuse to go on with a run of another recipe or other data.

        Args:
            folder: the run's.
            contract: with it, the content of the images is compared as well.

        Raises:
            UsageError: it is another run.
        """
        if (folder / "run.json").exists() and Run.read(folder) != self:
            raise UsageError(f"{folder}: holds a run with another recipe or data; use a new folder")
        if contract is None or not (folder / "contract.json").exists():
            return
        known = Contract.from_json((folder / "contract.json").read_text(encoding="utf-8"))
        if known.provenance.data != contract.provenance.data:
            raise UsageError(f"{folder}: its images have changed since; use a new folder")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read ``run.json`` strictly.

        Raises:
            InputMissingError: the folder holds no run.
            ModelError: it is damaged.
        """
        path = folder / "run.json"
        try:
            run: Run = build(cls, json.loads(path.read_text(encoding="utf-8")), "run")
        except OSError:
            raise InputMissingError(
                f"{folder}: no run here; make one with edge-fgr train"
            ) from None
        except (ContractError, ValueError) as error:
            raise ModelError(f"{path}: {error}") from None
        return run


def save_network(folder: Path, state: Mapping[str, Tensor], contract: Contract) -> None:
    """Write the weights of a finished network, and the contract."""
    atomic_write(folder / "contract.json", contract.to_json())
    atomic_write(folder / "model.safetensors", save(_plain(state)))


def save_head(folder: Path, weight: Floats, bias: Floats, contract: Contract) -> None:
    """Write a head ``(C, D)`` and ``(C,)`` alone, and the contract."""
    state = {"head.weight": torch.from_numpy(weight), "head.bias": torch.from_numpy(bias)}
    atomic_write(folder / "contract.json", contract.to_json())
    atomic_write(folder / "model.safetensors", save(_plain(state)))


def load_head(folder: Path) -> tuple[Floats, Floats, Contract]:
    """Read what ``save_head`` wrote.

    Raises:
        InputMissingError: there is none.
        ModelError: it is damaged.
    """
    contract, state = _read(folder)
    try:
        return state["head.weight"].numpy(), state["head.bias"].numpy(), contract
    except KeyError:
        raise ModelError(f"{folder}: damaged run (it has no head)") from None


def load_network(folder: Path) -> tuple[Network, Contract, Run]:
    """Read a finished or interrupted run, ready for evaluation.

    Raises:
        InputMissingError: there is none, or it has no finished epoch.
        ModelError: it is damaged.
    """
    run = Run.read(folder)
    contract, state = _read(folder)
    if run.base:
        raise ModelError(f"{folder}: stands on an exported model; export it and use that file")
    network = build_network(
        replace(run.recipe.model, drop_path=0.0),
        len(contract.labels),
        pretrained=False,
        size=contract.geometry.size,
        finished=True,
        good=good_of(run.recipe.model, contract.labels),
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{folder}: damaged run ({str(error).splitlines()[0]})") from None
    return network.eval(), contract, run


def _read(folder: Path) -> tuple[Contract, dict[str, Tensor]]:
    try:
        contract = Contract.from_json((folder / "contract.json").read_text(encoding="utf-8"))
        return contract, load_file(folder / "model.safetensors")
    except OSError:
        raise InputMissingError(f"{folder}: has no finished epoch; resume the training") from None
    except (SafetensorError, ContractError) as error:
        raise ModelError(f"{folder}: damaged run ({error})") from None


def save_state(path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer,
               rows: Sequence[Mapping[str, float]]) -> None:  # fmt: skip
    """Write what resuming needs after finished epochs, each with its row of the log."""
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for i, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{key}": value for key, value in values.items()}
    atomic_write(path, save(_plain(tensors), metadata={"rows": json.dumps(list(rows))}))


def rows_of(path: Path) -> list[dict[str, float]]:
    """Return the rows of the finished epochs that a state holds.

    Raises:
        ModelError: the state is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            rows: list[dict[str, float]] = json.loads(file.metadata()["rows"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise _unusable(path, error) from None
    return rows


def epochs_of(folder: Path) -> int | None:
    """Return how many epochs of a run are finished; None where it kept no state.

    Raises:
        ModelError: the state is damaged.
    """
    path = folder / "state.safetensors"
    return len(rows_of(path)) if path.exists() else None


def load_state(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Restore what ``save_state`` wrote; return the rows of the finished epochs.

    Raises:
        ModelError: the file is damaged or of another network.
    """
    rows = rows_of(path)
    try:
        tensors = load_file(path)
        for name, module in modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise _unusable(path, error) from None
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, field = key.split(".", 2)
            state.setdefault(int(index), {})[field] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    return rows


def _unusable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path}: cannot be resumed from ({error}); remove it, or use a new folder")


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
