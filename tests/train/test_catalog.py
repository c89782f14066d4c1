"""One text, one data set: folders, CSV indexes; hostile names there and back."""

from __future__ import annotations

import csv
import os
import sys

import pytest
from trees import place

from edge_fgr.errors import InputMissingError, OutputError, UsageError
from edge_fgr_train.catalog import open_dataset, survey_dataset, write_index
from edge_fgr_train.dataset import digest_of, scan

HOSTILE = (
    "with space", "comma, inside", 'quote "q"', "-rf", "ünï→码", "line\nbreak", "carriage\rreturn",
    "F#1%20", "=1+2", "a;b\ttab",
)  # fmt: skip


def names(dataset):
    return [sample.name for sample in dataset.samples]


def test_a_folder_without_splits(tmp_path, photos, monkeypatch):
    place(photos[0], tmp_path, "data", "a", "1.jpg")
    place(photos[1], tmp_path, "data", "val", "x", "2.jpg")
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("data")
    assert dataset.splits == () and dataset.origin == str(tmp_path / "data")
    assert [s.label for s in dataset.samples] == [("a",), ("val", "x")]
    monkeypatch.chdir("/")
    assert open_dataset(dataset.origin) == dataset


def test_a_folder_with_train_has_the_splits_beside_it(tmp_path, photos, capsys):
    for i, split in enumerate(("test", "train", "validation", "extra", ".hidden")):
        place(photos[i], tmp_path, split, "a", f"{i}.jpg")
    (tmp_path / "empty").mkdir()
    dataset = open_dataset(tmp_path)
    assert dataset.splits == ("train", "validation", "test")
    assert names(dataset) == ["train/a/1.jpg", "validation/a/2.jpg", "test/a/0.jpg"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("left out: extra\n")
    place(photos[0], tmp_path, "0.jpg")
    open_dataset(tmp_path)
    assert capsys.readouterr().err.endswith("left out: extra, the images beside them\n")


def test_splits_of_a_folder_by_name(tmp_path, photos, capsys):
    for i, split in enumerate(("train", "fold/1", "fold/2")):
        place(photos[i], tmp_path, *split.split("/"), "a", f"{i}.jpg")
    dataset = open_dataset(tmp_path, ("fold/2", "train"))
    assert dataset.splits == ("fold/2", "train")
    assert names(dataset) == ["fold/2/a/2.jpg", "train/a/0.jpg"]
    assert dataset.samples[0].label == ("a",)
    assert not capsys.readouterr().err
    with pytest.raises(InputMissingError, match="no such folder"):
        open_dataset(tmp_path, ("train", "absent"))
    with pytest.raises(UsageError, match=r"labelled both 1/a and a"):
        open_dataset(tmp_path, ("fold", "fold/1"))


def test_what_is_no_data(tmp_path):
    with pytest.raises(InputMissingError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(InputMissingError, match="no such index"):
        open_dataset(tmp_path / "absent.csv")
    with pytest.raises(InputMissingError, match="nor one of FGVCAircraft, Flowers102"):
        open_dataset("Flowers:/data")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputMissingError, match=r"train: holds no images"):
        open_dataset(tmp_path)


def test_all_problems_at_once(tmp_path, photos):
    place(photos[0], tmp_path, "train", "a", "1.jpg")
    place(photos[0], tmp_path, "train", "0.jpg")
    (tmp_path / "val" / "b").mkdir(parents=True)
    dataset, problems = survey_dataset(tmp_path)
    assert names(dataset) == ["train/a/1.jpg"] and len(problems) == 2
    with pytest.raises(UsageError, match="outside any class"):
        open_dataset(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="such file names do not exist there")
@pytest.mark.parametrize("deep", [False, True])
def test_an_index_there_and_back(tmp_path, photos, deep):
    for i, name in enumerate(HOSTILE):
        parts = (name, *(["fine"] if deep and i % 2 else []), f"{name}.jpg")
        place(photos[i], tmp_path, ("train", "test")[i % 3 == 0], *parts)
    dataset = open_dataset(tmp_path)
    write_index(tmp_path / "index.csv", dataset.samples)
    again = open_dataset(tmp_path / "index.csv")
    assert again.samples == dataset.samples and again.splits == ("train", "test")
    assert open_dataset(again.origin) == again
    assert digest_of(again.samples) == digest_of(dataset.samples)
    with (tmp_path / "index.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header == ["path", *(["level_1", "level_2"] if deep else ["label"]), "split"]


def test_an_index_elsewhere_names_absolute_paths(tmp_path, photos):
    place(photos[0], tmp_path, "data", "a", "1.jpg")
    samples = scan(tmp_path / "data")
    write_index(tmp_path / "other" / "index.csv", samples)
    assert (tmp_path / "other" / "index.csv").read_text().startswith("path,label\n")
    (again,) = open_dataset(tmp_path / "other" / "index.csv").samples
    assert (again.path, again.label, again.split) == (samples[0].path, ("a",), "")
    assert again.name == samples[0].path.as_posix()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_index(tmp_path / "file" / "index.csv", samples)


def index(folder, text, encoding="utf-8"):
    (folder / "index.csv").write_bytes(text.encode(encoding))
    return folder / "index.csv"


@pytest.fixture
def folder(tmp_path, photos):
    for i in range(4):
        place(photos[i], tmp_path, f"{i}.jpg")
    return tmp_path


def test_labels_are_whole_names(folder):
    text = "path,label\r\n0.jpg,F/A-18\r\n./x/../1.jpg, spaced \r\n\r\n"
    dataset = open_dataset(index(folder, text, "utf-8-sig"))
    assert [s.label for s in dataset.samples] == [("F/A-18",), (" spaced ",)]
    assert names(dataset) == ["0.jpg", "1.jpg"] and dataset.splits == ()


def test_levels_may_end_early(folder):
    text = "split,level_2,path,level_1\nval,,0.jpg,Fruit\ntrain,Apple,1.jpg,Fruit\nb,x,2.jpg,y\n"
    dataset = open_dataset(index(folder, text))
    assert [s.label for s in dataset.samples] == [("Fruit",), ("Fruit", "Apple"), ("y", "x")]
    assert dataset.splits == ("train", "val", "b")
    only = open_dataset(index(folder, text), ("b", "train"))
    assert only.splits == ("b", "train") and names(only) == ["1.jpg", "2.jpg"]
    with pytest.raises(UsageError, match="no split test; known: train, val, b"):
        open_dataset(index(folder, text), ("test",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs the columns path"),
        ("path,split\n0.jpg,train\n", "either label or level_1"),
        ("path,label,level_1\n0.jpg,a,b\n", "either label or level_1"),
        ("path,label,weight\n0.jpg,a,2\n", "unknown column 'weight'; known: path, label"),
        ("path;label\n0.jpg;a\n", "unknown column 'path;label'"),
        ("path,level_1,level_3\n0.jpg,a,b\n", "level_1 to level_2"),
        ("path,label,label\n0.jpg,a,b\n", "every column once"),
        ("path,label\n0.jpg,a\n,b\n", "row 3: path is empty"),
        ("path,label\n0.jpg,\n", "row 2: a label or a level of it is empty"),
        ("path,level_1,level_2\n0.jpg,,b\n", "row 2: a label or a level of it is empty"),
        ("path,label,split\n0.jpg,a,train\n1.jpg,a,\n", "row 3: split is empty"),
        ("path,label\n0.jpg,a,b\n", "row 2: 3 cells, but 2 columns"),
        ('path,label\n0.jpg,"a"b"\n', "no UTF-8 CSV"),
        ("path,label\n0.jpg,a\n./0.jpg,b\n", r"0\.jpg: labelled both a and b"),
        ("path,label,split\n0.jpg,a,x\n0.jpg,a,y\n", r"0\.jpg: stands in both x and y"),
    ],
)
def test_an_index_that_cannot_be_meant(folder, text, says):
    with pytest.raises(UsageError, match=says):
        open_dataset(index(folder, text))


def test_an_index_of_another_encoding(folder):
    with pytest.raises(UsageError, match="no UTF-8 CSV"):
        open_dataset(index(folder, "path,label\n0.jpg,Äpfel\n", "latin-1"))


def test_a_row_twice_counts_once_and_a_missing_file_is_named(folder):
    assert len(open_dataset(index(folder, "path,label\n0.jpg,a\n0.jpg,a\n")).samples) == 1
    path = index(folder, "path,label\n0.jpg,a\nx/5.jpg,b\n")
    with pytest.raises(InputMissingError, match=r"index\.csv: row 3: .*5\.jpg: no such file"):
        open_dataset(path)
    dataset, problems = survey_dataset(path)
    assert names(dataset) == ["0.jpg"] and len(problems) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_entered(tmp_path):
    (tmp_path / "data").mkdir(0)
    with pytest.raises(Exception, match="check its permissions"):
        open_dataset(tmp_path / "data")
