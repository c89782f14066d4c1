"""Models for tests of the bench: made with the onnx package in milliseconds, with our contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_fgr.contract import METADATA_KEY, Contract, Geometry, Label
from edge_fgr.image import load
from edge_fgr.model import embedded
from edge_fgr_export.metadata import stamp

__all__ = ["changed", "failing", "labelled_folder", "linear", "truth_of"]

_SIZE = 32


def truth_of(photo: Path) -> Label:
    """Return the class in the name of a golden photo."""
    return tuple(photo.stem.split("_")[:-1])


def labelled_folder(photos: Sequence[Path], folder: Path) -> Path:
    """Copy photos to where the folders say what is on them."""
    for photo in photos:
        place = folder.joinpath(*truth_of(photo))
        place.mkdir(parents=True, exist_ok=True)
        (place / photo.name).write_bytes(photo.read_bytes())
    return folder


def changed(path: Path, *, order: Sequence[int] | None = None, spread: float = 0.0) -> Path:
    """Write the embedded model with changed logits.

    Args:
        path: the file to write.
        order: class ``order[i]`` of the embedded model stands at place i; None: as there.
        spread: of what is added to the logits, drawn for each class.
    """
    model = onnx.load(embedded()["grocery81"])
    contract = Contract.from_json(
        {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
    )
    count = len(contract.labels)
    places = list(range(count)) if order is None else list(order)
    shift = np.random.default_rng(0).normal(0, spread, count).astype(np.float32)
    (head,) = (node for node in model.graph.node if "logits" in node.output)
    head.output[0] = "logits_before"
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(shift, "shift"),
            numpy_helper.from_array(np.array(places, np.int64), "order"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Add", ["logits_before", "shift"], ["logits_shifted"]),
            helper.make_node("Gather", ["logits_shifted", "order"], ["logits"], axis=1),
        ]
    )
    labels = tuple(contract.labels[place] for place in places)
    path.write_bytes(stamp(model, replace(contract, name="changed", labels=labels)))
    return path


def linear(path: Path, photos: Sequence[Path]) -> Path:
    """Write a linear model on 32 x 32 pixels that knows the photos by heart.

    Args:
        path: the file to write; its stem is the model's name.
        photos: what it is fitted to, by ridge regression.
    """
    labels = tuple(sorted({truth_of(photo) for photo in photos}))
    geometry = Geometry(size=_SIZE)
    rows = np.stack([load(photo, geometry).ravel() for photo in photos]).astype(np.float64)
    wanted = 8 * np.eye(len(labels))[[labels.index(truth_of(photo)) for photo in photos]]
    centre = rows.mean(axis=0)
    gram = (rows - centre) @ (rows - centre).T
    dual = np.linalg.solve(gram + 1e-3 * np.trace(gram) / len(rows) * np.eye(len(rows)), wanted)
    weight = (rows - centre).T @ dual
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    weights = {
        "weight": weight.astype(np.float32),
        "bias": (wanted.mean(axis=0) - centre @ weight).astype(np.float32),
    }
    return _write(path, labels, nodes, weights)


def failing(path: Path, labels: Sequence[Label], bad: Path, *, nan: bool = False) -> Path:
    """Write a model whose inference fails for one photo, truly: an index runs out of a table.

    Args:
        path: the file to write.
        labels: its classes.
        bad: the photo.
        nan: the table goes on instead, with logits that are no numbers.
    """
    pixels = load(bad, Geometry(size=_SIZE)).astype(np.int64)
    moments = [int(pixels.sum()), int((pixels[..., 0] * np.arange(_SIZE)).sum())]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Split", ["whole"], ["red", "green", "blue"], axis=3, num_outputs=3),
        helper.make_node("Squeeze", ["red", "last"], ["plane"]),
        helper.make_node("Mul", ["plane", "ramp"], ["leaning"]),
        helper.make_node("ReduceSum", ["leaning", "sides"], ["moment"], keepdims=0),
        helper.make_node("ReduceSum", ["whole", "all"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["sum", "bad_sum"], ["one"]),
        helper.make_node("Equal", ["moment", "bad_moment"], ["other"]),
        helper.make_node("And", ["one", "other"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["logits"], axis=0),
    ]
    table = np.eye(1 + nan, len(labels), dtype=np.float32)
    table[1:] = np.nan
    weights = {
        "last": np.array([3], np.int64),
        "ramp": np.arange(_SIZE),
        "sides": np.array([1, 2], np.int64),
        "all": np.array([1, 2, 3], np.int64),
        "bad_sum": np.array(moments[0], np.int64),
        "bad_moment": np.array(moments[1], np.int64),
        "table": table,
    }
    return _write(path, labels, nodes, weights)


def _write(
    path: Path,
    labels: Sequence[Label],
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", _SIZE, _SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(labels)])],
        [numpy_helper.from_array(np.ascontiguousarray(one), name) for name, one in weights.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    contract = Contract(path.stem, 1, tuple(labels), Geometry(size=_SIZE))
    path.write_bytes(stamp(model, contract))
    return path
