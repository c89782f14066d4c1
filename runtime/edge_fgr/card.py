"""A model's card: what its contract and its file say, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edge_fgr.model import Model

__all__ = ["card", "card_lines"]


def card(model: Model) -> dict[str, Any]:
    """Return the facts of a model as JSON-ready values; ``schema_version`` 1."""
    facts = asdict(model.contract)
    tensors = {
        key: [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in found]
        for key, found in (
            ("inputs", model.session.get_inputs()),
            ("outputs", model.session.get_outputs()),
        )
    }
    file = {
        "path": str(model.path),
        "bytes": model.path.stat().st_size,
        "digest": model.id.digest,
    }
    return {"schema_version": 1, "file": file, "contract": facts, **tensors}


def card_lines(facts: dict[str, Any]) -> str:
    """Return the card as text, a fact a line."""
    contract, file = facts["contract"], facts["file"]
    geometry, origin = contract["geometry"], contract["provenance"]
    depths = sorted({len(label) for label in contract["labels"]})
    rows = [
        ("model", f"{contract['name']} version {contract['version']}, target {contract['target']}"),
        ("file", f"{file['path']} ({file['bytes'] / 1e6:.2f} MB)"),
        ("sha256", file["digest"]),
        ("classes", f"{len(contract['labels'])}, paths of {' or '.join(map(str, depths))} names"),
        (
            "input",
            f"{geometry['size']} x {geometry['size']} RGB, {geometry['resize']} side to "
            f"{geometry['short_side']}, {geometry['kernel']}, EXIF {geometry['exif']}",
        ),
        ("region", ",".join(map(str, geometry["roi"])) if geometry["roi"] else "whole picture"),
        *_confidence_rows(contract["confidence"] or {}),
        *_operating_rows(contract["operating"]),
    ]
    rows += [(key, origin[key]) for key in ("recipe", "data", "commit", "licence", "notes")]
    for name, figures in (origin["metrics"] or {}).items():
        rows.append((name, ", ".join(f"{key} {value:.4g}" for key, value in figures.items())))
    rows += [
        (kind[:-1], f"{tensor['name']} {tensor['type']} {tensor['shape']}")
        for kind in ("inputs", "outputs")
        for tensor in facts[kind]
    ]
    wide = max(len(key) for key, _ in rows)
    return "".join(f"{key:{wide}}  {value}\n" for key, value in rows if value)


def _confidence_rows(confidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was fitted, a row each."""
    parts = (confidence.get(key) for key in ("unknown", "conformal", "back_off"))
    unknown, conformal, back_off = parts
    rows = [("temperature", str(confidence.get("temperature", "not fitted")))]
    if confidence.get("images"):
        rows.append(("fitted on", f"{confidence['images']} images, {confidence['fitted_on']}"))
    if unknown:
        rows.append(
            (
                "unknown",
                f"{unknown['score']} below {unknown['threshold']:.4g} "
                f"(at most {unknown['share']:.4g} of known images)",
            )
        )
    if conformal:
        pairs = ", ".join(f"{share:g}: {1 - limit:.6g}" for share, limit in conformal["quantiles"])
        rows.append(("sets", f"least probability for coverage {pairs} ({conformal['score']})"))
    if back_off:
        levels = ", ".join(
            f"{depth}: {'never' if least is None else f'{least:g}'}"
            for depth, least in enumerate(back_off["thresholds"], 1)
        )
        rows.append(
            (
                "back-off",
                f"{back_off['precision']:.4g} right (certainty {back_off['certainty']:.4g}) from "
                f"probability at level {levels}",
            )
        )
    return rows


def _operating_rows(point: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the operating point, if there is one."""
    if point is None:
        return []
    good, others = point["accepted"] + point["rejected"], point["missed"] + point["found"]
    words = (
        f"{' > '.join(point['label'])} from probability {point['threshold']:.6g} on (at most "
        f"{point['max_false_reject']:g} of it rejected: {point['rejected']} of {good}; accepted of "
        f"all others: {point['missed']} of {others})"
    )
    return [("accepts", words)]
