"""``edge-fgr inspect --graph``: what of a model is integer, what is still float, and why.

First the file itself, whose integers are QuantizeLinear and DequantizeLinear around operators; then
what onnxruntime makes of it on this machine, where an operator that was not fused runs in float.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_fgr.card import card
from edge_fgr.model import open_model
from edge_fgr.records import to_line
from edge_fgr_export.float_pooling import float_pooling
from edge_fgr_export.mirrors import OURS, mirrors_of, unmirrored
from edge_fgr_export.nodes import constants
from edge_fgr_export.reading import ROUNDING, SHAPES, Reading
from edge_fgr_export.same_bits import faults_of
from edge_fgr_export.tiles import untiled
from edge_fgr_export.wide import wide_parts

__all__ = ["graph_card", "graph_lines", "operators_run", "run"]

_FORMS = ("Conv", "Clip", "Relu", "Add", "MaxPool", "GlobalAveragePool", "Gemm")
"""Operators of a backbone that have an integer form here, or vanish into one."""

_RUN_AS = {
    "Conv": ("QLinearConv",),
    "Gemm": ("QGemm",),
    "Add": ("QLinearAdd",),
    "AveragePool": ("QLinearAveragePool",),
    "GlobalAveragePool": ("QLinearGlobalAveragePool",),
    "MaxPool": ("MaxPool", "NhwcMaxPool"),
}

_MOST_NAMES = 8


def run(model: str | None, form: str) -> None:
    """Write the card of a model's graph to stdout.

    Args:
        model: a .onnx file or an embedded model's name; None: the default.
        form: ``table`` or ``json``.

    Raises:
        InputMissingError, ModelError, ContractError: as ``open_model`` does.
    """
    opened = open_model(model, device="cpu")
    facts = {key: card(opened)[key] for key in ("schema_version", "file")}
    facts["target"] = opened.contract.target
    facts |= graph_card(opened.path)
    sys.stdout.write(to_line(facts) + "\n" if form == "json" else graph_lines(facts))


def graph_card(path: Path) -> dict[str, Any]:
    """Return the facts of a graph as JSON-ready values."""
    model = onnx.load(path)
    apart, alone = untiled(model), unmirrored(model)
    one = apart.deciding if apart else alone or model
    graph = Reading(one)
    entry, wide, pooling = graph.entry(), wide_parts(graph), float_pooling(one.graph)
    nodes = []
    for node in graph.nodes:
        if node.op_type in ROUNDING or node.op_type in SHAPES:
            continue
        integer = graph.is_integer(node)
        if node.output[0] in wide:
            reason = "kept wide by the accuracy budget"
        elif graph.rounds and pooling and node.output[0] in pooling.made:
            reason = f"{pooling.kind} pooling has no integer form"
        else:
            reason = _reason(graph, node, integer=integer, in_entry=node in entry)
        nodes.append(
            {
                "name": graph.name(node),
                "operator": node.op_type,
                "form": "integer" if integer else "float",
                "reason": reason,
            }
        )
    nodes += [
        {
            "name": node.output[0],
            "operator": node.op_type,
            "form": "float",
            "reason": "chooses the worst tile by its logits",
        }
        for node in (apart.around if apart else ())
        if node.op_type not in SHAPES
    ]
    nodes += [
        {
            "name": node.output[0],
            "operator": node.op_type,
            "form": "float",
            "reason": "averages mirrored copies, value by value",
        }
        for node in (model.graph.node if alone else ())
        if node.name.startswith(OURS) and node.op_type in ("Add", "Mul")
    ]
    wanted = Counter(row["operator"] for row in nodes if row["form"] == "integer")
    runs = operators_run(path)
    faults = faults_of(model)
    return {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "ir_version": model.ir_version,
        "tiles": apart.plan.tiles**2 if apart else 1,
        "mirrors": mirrors_of(model),
        "constant_bytes": _bytes_by_type(model),
        "operators": _counted(Counter(node.op_type for node in model.graph.node)),
        "nodes": nodes,
        "stray": graph.stray(),
        "same_bits": {"promised": not faults, "faults": faults},
        "onnxruntime": {
            "version": ort.__version__,
            "operators": runs,
            "fallbacks": {
                operator: missing
                for operator, count in wanted.items()
                if (missing := count - sum(runs.get(name, 0) for name in _RUN_AS[operator])) > 0
            },
        },
    }


def operators_run(path: Path) -> dict[str, int]:
    """Return how often each operator stands in the graph that onnxruntime runs on this CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = onnx.load(optimised).graph.node
    return _counted(Counter(node.op_type for node in found))


def graph_lines(facts: dict[str, Any]) -> str:
    """Return the card as text."""
    opsets = ", ".join(f"{version} ({domain})" for domain, version in facts["opset"].items())
    sizes = facts["constant_bytes"].items()
    promise, stray, runs = facts["same_bits"], facts["stray"], facts["onnxruntime"]
    rows = [
        ("file", f"{facts['file']['path']} ({facts['file']['bytes'] / 1e6:.2f} MB)"),
        ("target", facts["target"]),
        ("opset", f"{opsets}, IR version {facts['ir_version']}"),
        ("constants", ", ".join(f"{kind} {size / 1e6:.3f} MB" for kind, size in sizes)),
        *([("mirrors", f"{facts['mirrors']} copies, judged together")] * (facts["mirrors"] > 1)),
        *([("tiles", f"{facts['tiles']}, of which the worst decides")] * (facts["tiles"] > 1)),
        ("stray pairs", f"{len(stray)}"),
        *(("", line) for line in stray[:_MOST_NAMES]),
        ("same bits", "promised" if promise["promised"] else "not promised"),
        *(("", line) for line in promise["faults"][:_MOST_NAMES]),
    ]
    wide = max(len(key) for key, _ in rows)
    lines = [f"{key:{wide}}  {value}" for key, value in rows]
    lines += ["", f"{'operator':26} {'nodes':>6} {'integer':>8} {'float':>6}"]
    forms = Counter((row["operator"], row["form"]) for row in facts["nodes"])
    for name, count in facts["operators"].items():
        shown = [str(forms[name, form] or "") for form in ("integer", "float")]
        lines.append(f"{name:26} {count:6} {shown[0]:>8} {shown[1]:>6}".rstrip())
    lines += ["", *_float_lines(facts["nodes"])]
    lines.append(f"{'onnxruntime ' + runs['version'] + ' runs':26} {'nodes':>6}")
    lines += [f"{name:26} {count:6}" for name, count in runs["operators"].items()]
    for name, count in runs["fallbacks"].items():
        lines.append(f"{count} {name} that should be integer: onnxruntime did not fuse it")
    return "".join(f"{line}\n" for line in lines)


def _float_lines(nodes: list[dict[str, str]]) -> list[str]:
    """Return the reasons for float, with the names where they are few."""
    lines = []
    for form, reason in dict.fromkeys((row["form"], row["reason"]) for row in nodes):
        if not reason:
            continue
        which = [row for row in nodes if (row["form"], row["reason"]) == (form, reason)]
        names = ", ".join(f"{row['operator']} {row['name']}" for row in which)
        if len(which) > _MOST_NAMES:
            counts = Counter(row["operator"] for row in which)
            names = ", ".join(f"{count} {operator}" for operator, count in _counted(counts).items())
        kind = "integer, not rounded" if form == "integer" else "float"
        lines.append(f"{kind}: {reason}: {names}")
    return [*lines, ""] if lines else []


def _reason(graph: Reading, node: onnx.NodeProto, *, integer: bool, in_entry: bool) -> str:
    """Return why an operator, or what it gives, is float; nothing where neither is."""
    if not graph.rounds:
        return "fp32 model"
    if graph.is_head(node):
        return "logits stay float"
    if integer:
        return ""
    if in_entry:
        return "pixels are normalised value by value, and rounded once"
    if node.op_type not in _FORMS:
        return "an operator without integer form"
    if node.op_type in ("Relu", "Clip") and graph.codes(node.input[0]):
        return "value by value between codes"
    readers = graph.readers.get(node.output[0], [])
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        return "integer where a runtime fuses the clip behind it, as TensorRT does"
    return "computed in float"


def _bytes_by_type(model: onnx.ModelProto) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for value in constants(model).values():
        sizes[np.dtype(value.dtype).name] += value.nbytes
    return _counted(sizes)


def _counted(found: Counter[str]) -> dict[str, int]:
    """Return counts in falling order, equal ones by name."""
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
