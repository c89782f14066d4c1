"""What a table and a CSV say of classes, coarser names, strangers and sets."""

from __future__ import annotations

import csv
import io

import pytest

from edge_fgr.errors import ImageError
from edge_fgr.prediction import (
    Gate,
    LabelSet,
    ModelId,
    Prediction,
    Ranked,
    Timings,
    UnknownScore,
    Verdict,
)
from edge_fgr.records import Journal, record_of, to_line
from edge_fgr.render import writer

MODEL = ModelId("m", 1, "d")
GALA, KIWI = ("Fruit", "Apple", "Gala"), ("Fruit", "Kiwi")


def record(kind, label, probability=0.5, labels=None, gate=None):
    top = (Ranked(GALA, 0.412), Ranked(KIWI, 0.25))
    verdict = Verdict(kind, label, probability, "because")
    unknown = UnknownScore(0.25, 0.5, "whitened_cosine")
    prediction = Prediction(
        GALA, 0.412, top, Timings(1, 2, 3), "cpu", MODEL, verdict, unknown, labels, gate
    )
    return record_of("a.jpg", prediction, MODEL, "cpu")


def shown(found, form, ranks=1) -> str:
    out = io.StringIO()
    made = writer(form, out, ranks=ranks, names=["a.jpg"])
    made.add(found)
    made.close()
    return out.getvalue()


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (("class", GALA), "a.jpg   41.20%  Fruit > Apple > Gala"),
        (
            ("coarse", GALA[:1], 0.91),
            "a.jpg   91.00%  Fruit (perhaps Fruit > Apple > Gala 41.20%)",
        ),
        (("unknown", ()), "a.jpg           unknown (nearest: Fruit > Apple > Gala 41.20%)"),
        (("uncertain", ()), "a.jpg           uncertain (nearest: Fruit > Apple > Gala 41.20%)"),
    ],
)  # fmt: skip
def test_table(found, row):
    assert shown(record(*found), "table") == row + "\n"
    rows = shown(record(*found), "table", ranks=2).splitlines()
    assert rows[0] == row and rows[-1].endswith("25.00%  Fruit > Kiwi")
    assert len(rows) == (2 if found[0] == "class" else 3)


def test_table_with_a_set():
    found = record("class", GALA, labels=LabelSet(0.95, (GALA, KIWI), "because"))
    last = shown(found, "table").splitlines()[-1]
    assert last.strip() == "one of 2 (0.95 sure): Fruit > Apple > Gala, Fruit > Kiwi"


def test_csv_has_the_verdict_at_its_end():
    found = record("unknown", (), labels=LabelSet(0.95, (GALA, KIWI), "because"))
    (row,) = csv.DictReader(io.StringIO(shown(found, "csv", ranks=2)))
    assert list(row.items())[-13:] == [
        ("verdict", "unknown"),
        ("verdict_label", ""),
        ("verdict_probability", "0.5"),
        ("verdict_reason", "because"),
        ("unknown_score", "0.25"),
        ("unknown_threshold", "0.5"),
        ("set_coverage", "0.95"),
        ("set_labels", "Fruit/Apple/Gala | Fruit/Kiwi"),
        ("evidence", ""),
        ("gate_label", ""),
        ("gate_accepted", ""),
        ("gate_probability", ""),
        ("gate_threshold", ""),
    ]
    assert row["label"] == "Fruit/Apple/Gala" and row["label_2"] == "Fruit/Kiwi"


@pytest.mark.parametrize(
    ("kind", "label", "accepted", "row"),
    [
        ("class", KIWI, True, "a.jpg   30.00%  Fruit > Kiwi (accepted)"),
        ("rejected", GALA, False, "a.jpg           rejected (perhaps Fruit > Apple > Gala 30.00%)"),
        ("unknown", (), False, "a.jpg           unknown (nearest: Fruit > Apple > Gala 41.20%)"),
    ],
)
def test_a_gate(kind, label, accepted, row):
    found = record(kind, label, 0.3, gate=Gate(KIWI, accepted, 0.3, 0.25))
    assert found["gate"] == {
        "label": ["Fruit", "Kiwi"],
        "accepted": accepted,
        "probability": 0.3,
        "threshold": 0.25,
    }
    assert shown(found, "table") == row + "\n"
    rows = shown(found, "table", ranks=2).splitlines()
    assert rows[0] == row and "41.20%  Fruit > Apple > Gala" in rows[1] and len(rows) == 3
    (cells,) = csv.DictReader(io.StringIO(shown(found, "csv")))
    assert list(cells.values())[-4:] == ["Fruit/Kiwi", str(accepted).lower(), "0.3", "0.25"]


def test_a_journal_from_before_there_were_gates(tmp_path):
    found = dict(record("class", GALA))
    del found["gate"]
    head = {"schema_version": 1, "resume": {"model": "d"}}
    path = tmp_path / "run.journal"
    path.write_text(f"{to_line(head)}\n{to_line(found)}\n")
    with Journal(path, {"model": "d"}) as journal:
        kept = journal.get("a.jpg")
    assert kept["gate"] is None and kept["label"] == list(GALA)


def test_an_error_has_no_verdict():
    found = record_of("a.jpg", ImageError("a.jpg: empty"), MODEL, "cpu")
    assert found["verdict"] is found["unknown"] is found["set"] is None
    assert shown(found, "table") == ""
    (row,) = csv.DictReader(io.StringIO(shown(found, "csv")))
    assert row["verdict"] == "" and row["error_message"] == "a.jpg: empty"
