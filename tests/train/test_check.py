"""What a check reports: counts, damage, contradictions, leaks; for people and for programs."""

from __future__ import annotations

import json
import sys

import pytest
from trees import place

from edge_fgr.errors import DataError, InputMissingError, UsageError
from edge_fgr_train.catalog import open_dataset, survey_dataset, write_index
from edge_fgr_train.check import check
from edge_fgr_train.data_command import run_check
from edge_fgr_train.findings import lines, to_json
from pictures import opened


@pytest.fixture
def bad(tmp_path, photos):
    """A folder with one of everything that can be wrong."""
    for i in range(4):
        place(photos[i], tmp_path, "train", "Fruit", "Apple", f"{i}.jpg")
    for i in (4, 5):
        place(photos[i], tmp_path, "train", "Fruit", "Pear", f"{i}.jpg")
    place(photos[0], tmp_path, "train", "Fruit", "Pear", "apple.jpg")  # conflict, the same bytes
    opened(photos[4]).save(tmp_path / "train" / "Fruit" / "Pear" / "4-again.jpg", quality=50)
    place(photos[6], tmp_path, "train", "Pear", "6.jpg")  # the same leaf name, one image
    opened(photos[2]).resize((150, 150)).save(tmp_path / "train" / "Pear" / "7.png")  # conflict
    (tmp_path / "val" / "Fruit" / "Apple").mkdir(parents=True)
    opened(photos[1]).convert("L").save(tmp_path / "val" / "Fruit" / "Apple" / "1.jpg")  # leak
    place(photos[8], tmp_path, "val", "Kiwi", "8.jpg")  # never trained
    broken = tmp_path / "val" / "Kiwi" / "9.jpg"
    broken.write_bytes(photos[9].read_bytes()[:5000])
    return tmp_path


def test_everything_that_is_wrong(bad):
    findings = check(open_dataset(bad))
    train, val = findings.parts
    apple, pear, other, kiwi = ("Fruit", "Apple"), ("Fruit", "Pear"), ("Pear",), ("Kiwi",)
    assert train.counts == {apple: 4, pear: 4, kiwi: 0, other: 2}
    assert val.counts == {apple: 1, pear: 0, kiwi: 2, other: 0}
    assert train.largest == (apple, 4) and train.smallest == (other, 2)
    assert train.evenness == pytest.approx(0.9602, abs=1e-4)
    assert val.of_size(1) == [apple]
    assert findings.untrained == (kiwi,)
    assert [(u.sample.name, u.kind) for u in findings.unreadable] == [
        ("val/Kiwi/9.jpg", "truncated")
    ]
    conflicts = {(t.first.name, t.second.name, t.identical) for t in findings.conflicts}
    assert conflicts == {
        ("train/Fruit/Apple/0.jpg", "train/Fruit/Pear/apple.jpg", True),
        ("train/Fruit/Apple/2.jpg", "train/Pear/7.png", False),
    }
    assert [(t.first.name, t.second.name) for t in findings.leaks] == [
        ("train/Fruit/Apple/1.jpg", "val/Fruit/Apple/1.jpg")
    ]
    assert {frozenset(s.path.name for s in group) for group in findings.groups} == {
        frozenset(("4.jpg", "4-again.jpg")),
        frozenset(("0.jpg", "apple.jpg")),
        frozenset(("2.jpg", "7.png")),
    }


def test_sound_data_has_no_findings(tmp_path, photos):
    for i, photo in enumerate(photos):
        place(photo, tmp_path, ("train", "val")[i % 4 == 3], "ab"[i // 16], f"{i}.jpg")
    found = check(*survey_dataset(tmp_path))
    assert not any((found.problems, found.unreadable, found.conflicts, found.leaks, found.groups))
    assert not found.untrained
    assert found.parts[0].evenness == 1.0
    (tmp_path / "index.csv").touch()
    write_index(tmp_path / "index.csv", open_dataset(tmp_path).samples)
    again = check(open_dataset(tmp_path / "index.csv"))
    assert (again.parts, again.leaks) == (found.parts, found.leaks)


def test_one_class_and_no_splits(tmp_path, photos):
    place(photos[0], tmp_path, "a", "1.jpg")
    (part,) = check(open_dataset(tmp_path)).parts
    assert (part.split, part.evenness, part.of_size(1)) == ("", 1.0, [("a",)])


def test_problems_are_reported_beside_the_rest(bad, photos, capsys):
    place(photos[0], bad, "train", "loose.jpg")
    (bad / "train" / "Fruit" / "Empty").mkdir()
    run_check(str(bad), "json", False)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert len(found["problems"]) == 2 and "Empty: an empty class" in found["problems"][1]
    assert found["schema_version"] == 1 and found["data"] == str(bad)
    assert [split["images"] for split in found["splits"]] == [10, 3]
    assert found["leaks"][0]["files"][1] == {
        "file": "val/Fruit/Apple/1.jpg", "label": ["Fruit", "Apple"], "split": "val",
    }  # fmt: skip
    assert err.splitlines() == [
        "near-duplicates across splits: 1",
        "  val/Fruit/Apple/1.jpg (val) looks like train/Fruit/Apple/1.jpg (train)",
    ]
    with pytest.raises(UsageError, match="none of table, json"):
        run_check(str(bad), "csv", False)
    with pytest.raises(InputMissingError):
        run_check(str(bad / "absent"), "table", False)


def test_strict_turns_contradictions_into_an_error(bad, capsys):
    with pytest.raises(DataError) as caught:
        run_check(str(bad), "table", True)
    assert (caught.value.exit_code, caught.value.kind) == (65, "data")
    assert ": 1 images leak between splits, 2 have conflicting labels, 1 files cannot be read;" in (
        str(caught.value)
    )
    table = capsys.readouterr().out
    assert "Fruit > Apple      4    1" in table
    assert "classes that the first split lacks: 1\n  Kiwi\n" in table
    assert (
        "apple.jpg (Fruit > Pear) has the bytes of train/Fruit/Apple/0.jpg (Fruit > Appl" in table
    )


@pytest.mark.skipif(sys.platform == "win32", reason="such file names do not exist there")
def test_hostile_class_names_keep_to_one_line(tmp_path, photos):
    names = ["line\nbreak", "\x1b[31mred", 'q"uote', "-rf", "a, b", "right\u202eleft", "日本"]
    for i, name in enumerate(names):
        place(photos[i], tmp_path, name, f"{name}.jpg")
        (tmp_path / name / f"{name}.png").write_bytes(b"broken")
    findings = check(open_dataset(tmp_path))
    text = lines(findings)
    assert all(line.isprintable() for line in text)
    rows = text[1 : len(names) + 1]
    assert any(row.startswith("line\\nbreak") for row in rows)
    assert any(row.startswith("\\u001b[31mred") for row in rows)
    assert {tuple(c["label"]) for c in to_json(findings)["splits"][0]["classes"]} == {
        (name,) for name in names
    }


def test_long_lists_are_cut_for_people_only(tmp_path, photos):
    for i in range(25):
        place(photos[i], tmp_path, f"class {i:02}", "1.jpg")
    findings = check(open_dataset(tmp_path))
    text = lines(findings)
    assert "classes with one image: 25" in text
    assert "  … and 5 more; --format json lists all" in text
    assert len(to_json(findings)["splits"][0]["single_image_classes"]) == 25
