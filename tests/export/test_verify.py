"""Parity as a gate: any two of checkpoint, models and golden logits, on image files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest

from edge_fgr.contract import METADATA_KEY, Contract
from edge_fgr.errors import (
    ContractError,
    DataError,
    DeviceError,
    EdgeFgrError,
    ImageError,
    InputMissingError,
    ModelError,
    OutputError,
    UsageError,
)
from edge_fgr.model import embedded, open_model
from edge_fgr_export.answerers import aligned, answers, open_answerer
from edge_fgr_export.command import fp32_path, stamp
from edge_fgr_export.command import run as export
from edge_fgr_export.golden import About, digest_of_file, read_golden, write_golden
from edge_fgr_export.verify import UNKNOWN, Limits, verdict_of
from edge_fgr_export.verify_command import run
from edge_fgr_export.verify_images import gather
from edge_fgr_train.command import run as train
from edge_fgr_train.evaluate import wilson
from golden.make_golden import HERE

ABOUT = About("grocery81", 1, "0" * 64, "fp32", "cpu")


def place(photo, root, *parts):
    (path := root.joinpath(*parts)).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, path)


def label_of(photo):
    return tuple(photo.stem.split("_")[:-1])


@pytest.fixture(scope="module")
def labels():
    return open_model(device="cpu").contract.labels


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    """The golden photographs in folders of their classes."""
    root = tmp_path_factory.mktemp("data")
    for photo in photos:
        place(photo, root, *label_of(photo), photo.name)
    return root


@pytest.fixture(scope="module")
def fp32(photos, labels, tmp_path_factory):
    """Golden logits of the fp32 twin of the embedded model."""
    path = tmp_path_factory.mktemp("golden") / "fp32.npz"
    digests = [digest_of_file(photo) for photo in photos]
    logits = np.load(HERE / "fp32_logits.npy")
    write_golden(path, ABOUT, labels, [photo.name for photo in photos], digests, logits)
    return path


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "tiny.onnx"
    export(tiny / "run", output, None)
    return output


def found(capsys, *arguments, **options):
    run(*map(str, arguments[:2]), list(map(str, arguments[2:])), form="json", **options)
    return json.loads(capsys.readouterr().out)


def rows(answers, classes=4):
    return np.eye(classes, dtype=np.float32)[answers]


def test_figures_of_a_verdict():
    truth = np.arange(200) % 4
    a, b = truth.copy(), truth.copy()
    b[:10] += 1  # lost
    a[10:12] += 1  # won
    a[12], b[12] = truth[12] + 1, truth[12] + 2  # both wrong
    a, b = a % 4, b % 4
    verdict = verdict_of(rows(a), 3 * rows(b), truth)
    assert (verdict.images, verdict.same, verdict.labelled) == (200, 187, 200)
    assert (verdict.lost, verdict.won) == (10, 2)
    assert verdict.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # exact, both tails
    assert (verdict.reference_right, verdict.candidate_right) == (197, 189)
    assert verdict.drop == pytest.approx(0.04) and verdict.agreement == pytest.approx(0.935)
    assert verdict.largest == 3 and verdict.mean == pytest.approx((187 * 2 + 13 * 4) / 800)
    squares = (187 * 4 + 13 * 10) / 800
    assert verdict.relative_rms == pytest.approx(np.sqrt(squares) / rows(a).std())
    assert [flip.row for flip in verdict.flips] == list(range(13))
    assert {(flip.reference_margin, flip.candidate_margin) for flip in verdict.flips} == {(1, 3)}


def test_the_surest_flip_comes_first():
    reference = np.array([[1, 0], [5, 0], [2, 0]], np.float32)
    verdict = verdict_of(reference, -reference)
    assert [(flip.row, flip.reference_margin) for flip in verdict.flips] == [(1, 5), (2, 2), (0, 1)]
    assert verdict.labelled == 0 and verdict.drop is None and verdict.p == 1


def test_images_without_truth_count_for_agreement_alone():
    verdict = verdict_of(rows([0, 1, 2]), rows([0, 2, 3]), [UNKNOWN, 1, UNKNOWN])
    assert (verdict.same, verdict.images, verdict.labelled) == (1, 3, 1)
    assert (verdict.reference_right, verdict.candidate_right, verdict.lost) == (1, 0, 1)


def test_equal_logits_and_logits_that_are_none():
    same = verdict_of(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), [0, 1])
    assert same.relative_rms is None and same.flips == () and same.largest == 0
    for value in (np.nan, np.inf):
        with pytest.raises(ModelError, match=r"candidate gives logits .* for 1 of 2"):
            verdict_of(rows([0, 1]), np.array([[1, 0, 0, 0], [0, value, 0, 0]], np.float32))
    with pytest.raises(ModelError, match="cannot be compared"):
        verdict_of(rows([0]), rows([0], 5))


def test_limits():
    one = verdict_of(rows([0] * 200), rows([0] * 199 + [1]), [0] * 200)
    assert Limits(99.5, 0.5).broken(one) == []
    assert Limits(0, 0).broken(one) == ["top-1 falls by 0.50 points, more than 0"]
    assert Limits(99.6).broken(one) == ["labels agree on 99.50%, less than 99.6%"]
    better = verdict_of(rows([1] * 10), rows([0] * 10), [0] * 10)
    assert Limits(max_drop=0).broken(better) == []
    for value in (float("nan"), float("inf"), -1, 101):
        with pytest.raises(UsageError, match="from 0 to 100"):
            Limits(min_agreement=value)
        with pytest.raises(UsageError, match="--max-drop"):
            Limits(max_drop=value)
    with pytest.raises(UsageError, match="labelled"):
        Limits(max_drop=1).broken(verdict_of(rows([0]), rows([0])))


def test_int8_against_the_golden_logits_of_fp32(capsys, data, fp32):
    figures = found(capsys, fp32, "grocery81", data, limits=(96, 3.2))
    assert figures["passed"] and figures["images"] == figures["labelled"] == 32
    assert figures["agreement"]["count"] >= 31
    assert figures["reference"]["kind"] == "golden" and figures["candidate"]["kind"] == "onnx"
    assert figures["candidate"]["digest"] == open_model(device="cpu").id.digest
    right = figures["accuracy"]["candidate"]["count"]
    assert right >= 26
    assert figures["accuracy"]["candidate"]["interval"] == pytest.approx(wilson(right, 32))
    assert 0 < figures["logits"]["mean"] < figures["logits"]["largest"] < 2
    assert figures["pixels"] == "kept"


def test_checkpoint_fp32_and_int8(capsys, tiny, exported):
    twin = found(capsys, tiny / "run", fp32_path(exported), tiny / "data")
    assert twin["images"] == 18 and twin["labelled"] == 18  # train and val
    assert twin["reference"]["kind"] == "checkpoint" and twin["pixels"] == "same"
    assert twin["agreement"]["share"] == 1 and twin["logits"]["largest"] < 1e-3
    assert twin["mcnemar"] == {"lost": 0, "won": 0, "p": 1.0}
    held = found(capsys, tiny / "run", exported, tiny / "data", splits=["val"])
    assert held["images"] == 6 and held["candidate"]["target"] == "portable"
    assert held["logits"]["largest"] > twin["logits"]["largest"]


def test_a_chain_on_an_exported_model(capsys, tiny, tmp_path):
    """Its checkpoint is a head of its own on the embeddings of a model."""
    train(str(tiny / "data"), tmp_path / "run", "chain", ['chain.head="svm"'], "cpu", "grocery81")
    export(tmp_path / "run", tmp_path / "chain.onnx", None)
    capsys.readouterr()
    figures = found(capsys, tmp_path / "run", tmp_path / "chain.onnx", tiny / "data")
    assert figures["agreement"]["share"] == 1 and figures["logits"]["relative_rms"] < 0.05


def test_golden_logits_repeat_to_the_bit(capsys, data, photos, tmp_path):
    kept, again = tmp_path / "a.npz", tmp_path / "b.npz"
    for path in (kept, again):
        run("grocery81", "grocery81", [str(data)], outputs=(None, None, path))
    capsys.readouterr()
    assert kept.read_bytes() == again.read_bytes()
    (moved := tmp_path / "moved").mkdir()
    for i, photo in enumerate(photos[:3]):  # matched by content, whatever the names are
        shutil.copy(photo, moved / f"{i}.jpg")
    figures = found(capsys, kept, "grocery81", moved, limits=(100, None))
    assert figures["images"] == 3 and figures["logits"]["largest"] == 0
    assert figures["accuracy"] is figures["mcnemar"] is None and figures["labelled"] == 0
    with np.load(kept, allow_pickle=False) as file:
        assert file["logits"].shape == (32, 81) and file["logits"].dtype == np.float32
        assert file["names"][0] == "/".join([*label_of(photos[0]), photos[0].name])


def test_an_image_that_golden_logits_lack(fp32, tmp_path, photos):
    other = tmp_path / "other.jpg"
    other.write_bytes(photos[0].read_bytes() + b"\0")
    with pytest.raises(InputMissingError, match=r"other\.jpg: .*fp32\.npz holds no logits"):
        run(str(fp32), "grocery81", [str(photos[0]), str(other)])


def test_classes_in_another_order(capsys, fp32, data, tmp_path):
    golden = read_golden(fp32)
    turned = tmp_path / "turned.npz"
    write_golden(
        turned, ABOUT, golden.labels[::-1], ["x"] * 32, list(golden.rows),
        np.stack(list(golden.rows.values()))[:, ::-1],
    )  # fmt: skip
    figures = found(capsys, fp32, turned, data)
    assert figures["logits"]["largest"] == 0 and figures["agreement"]["share"] == 1
    assert figures["accuracy"]["drop"] == 0


def test_other_classes_are_refused(fp32, data, tmp_path):
    golden = read_golden(fp32)
    other = tmp_path / "other.npz"
    labels = (("Fruit", "Durian"), *golden.labels[1:])
    logits = np.stack(list(golden.rows.values()))
    write_golden(other, ABOUT, labels, ["x"] * 32, list(golden.rows), logits)
    with pytest.raises(ContractError, match=r"lacks 1, .*; has beyond them 1, .*Durian"):
        run(str(fp32), str(other), [str(data)])


def restamped(path, **changes):
    model = onnx.load(embedded()["grocery81"])
    found = {entry.key: entry.value for entry in model.metadata_props}
    contract = Contract.from_json(found[METADATA_KEY])
    path.write_bytes(stamp(model, replace(contract, **changes)))
    return path


def test_each_makes_its_pixels_by_its_own_contract(capsys, data, tmp_path, photos):
    geometry = open_model(device="cpu").contract.geometry
    other = restamped(tmp_path / "x.onnx", geometry=replace(geometry, roi=(0, 0, 0.5, 0.5)))
    figures = found(capsys, "grocery81", other, data, outputs=(None, tmp_path / "x.html", None))
    assert figures["pixels"] == "own" and figures["logits"]["largest"] > 1
    page = (tmp_path / "x.html").read_text()
    assert page.count("<img ") == 2 * len(figures["flipped"]) > 0
    assert "each by its own contract" in page
    sides = open_answerer("grocery81"), open_answerer(str(other))
    one, two = answers(sides, photos[:3])
    np.testing.assert_array_equal(one, answers(sides[:1], photos[:3])[0])
    np.testing.assert_array_equal(two, answers(sides[1:], photos[:3])[0])
    assert aligned(*sides).tolist() == list(range(81))


def flipped(fp32, path, count):
    """Golden logits whose first images have another answer."""
    golden = read_golden(fp32)
    logits = np.stack(list(golden.rows.values()))
    logits[:count] = np.roll(logits[:count], 1, axis=1)
    write_golden(path, ABOUT, golden.labels, ["x"] * 32, list(golden.rows), logits)
    return path


def test_the_gate(cli, fp32, data, tmp_path):
    wrong = flipped(fp32, tmp_path / "wrong.npz", 5)
    written = [tmp_path / name for name in ("v.json", "v.html", "kept.npz")]
    options = ["--json", written[0], "--page", written[1], "--golden", written[2]]
    result = cli(
        "verify", fp32, wrong, data, *options, "--min-agreement", 99.5, "--max-drop", 0.3,
        "--format", "json",
    )  # fmt: skip
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "labels agree on 84.38%, less than 99.5%; top-1 falls by" in line
    figures = json.loads(result.stdout)
    assert figures == json.loads(written[0].read_text())
    assert not figures["passed"] and len(figures["broken"]) == 2 and len(figures["flipped"]) == 5
    assert figures["limits"] == {"min_agreement": 99.5, "max_drop": 0.3}
    assert {flip["truth"][0] for flip in figures["flipped"]} == {"Fruit"}
    margins = [flip["reference"]["margin"] for flip in figures["flipped"]]
    assert margins == sorted(margins, reverse=True) and min(margins) > 0
    assert read_golden(written[2]).about == ABOUT
    assert cli("verify", fp32, wrong, data, "--min-agreement", 84).returncode == 0


def test_the_table(cli, fp32, data, tmp_path, photos):
    wrong = flipped(fp32, tmp_path / "wrong.npz", 30)
    text = cli("verify", fp32, wrong, data).stdout
    assert "labels agree     6.25% (95% interval" in text and "30 flipped" in text
    assert "(lost)" in text and "… and 10 more" in text
    bare = cli("verify", fp32, "grocery81", *photos[:2])
    assert bare.returncode == 0 and "2, 0 of them labelled" in bare.stdout
    assert re.search(r"^top-1 drop +-$", bare.stdout, re.MULTILINE)


def test_the_page(fp32, data, tmp_path, capsys):
    wrong = flipped(fp32, tmp_path / "wrong.npz", 4)
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        run(str(wrong), "grocery81", [str(data)], outputs=(None, page, None), limits=(50, None))
    capsys.readouterr()
    text = pages[0].read_text()
    assert text == pages[1].read_text()
    assert 4 <= text.count('<img src="data:image/jpeg;base64,') == text.count("<img ") <= 6
    assert "Limits kept" in text and "won" in text and "Granny-Smith" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)|https?:", text)


def test_names_cannot_write_into_the_page(fp32, photos, tmp_path, capsys):
    hostile = tmp_path / "<script>alert(1)<" / "a\u202eb.jpg"
    hostile.parent.mkdir()
    shutil.copy(photos[0], hostile)
    wrong = flipped(fp32, tmp_path / "wrong.npz", 1)
    page = tmp_path / "page.html"
    run(str(wrong), "grocery81", [str(tmp_path)], outputs=(None, page, None))
    capsys.readouterr()
    text = page.read_text()
    assert "<img " in text and "<script" not in text and "\u202e" not in text


def test_names_that_are_not_utf8(cli, fp32, photos, tmp_path):
    shutil.copy(photos[0], os.fsencode(tmp_path / "x") + b"\xff.jpg")
    wrong = flipped(fp32, tmp_path / "wrong.npz", 1)
    files = [tmp_path / name for name in ("v.json", "v.html", "v.npz")]
    options = ["--json", files[0], "--page", files[1], "--golden", files[2]]
    result = cli("verify", wrong, "grocery81", tmp_path, *options, "--format", "json")
    assert result.returncode == 0, result.stderr
    (flip,) = json.loads(files[0].read_text())["flipped"]
    assert flip["file"].endswith("x\udcff.jpg") and files[1].exists() and files[2].exists()


def test_no_more_than_sixty_are_shown(fp32, photos, tmp_path, capsys):
    golden = read_golden(fp32)
    paths, digests = [], []
    for i in range(64):  # other bytes, the same picture
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(photos[0].read_bytes() + bytes([i]))
        digests.append(digest_of_file(paths[-1]))
    logits = np.tile(np.roll(golden.rows[digest_of_file(photos[0])], 1), (64, 1))
    many = tmp_path / "many.npz"
    write_golden(many, ABOUT, golden.labels, ["x"] * 64, digests, logits)
    page = tmp_path / "page.html"
    run(str(many), "grocery81", [str(path) for path in paths], outputs=(None, page, None))
    capsys.readouterr()
    text = page.read_text()
    assert text.count("<img ") == 60 and "of which the 60 that the reference was surest of" in text


def test_what_is_labelled(data, photos, labels, tmp_path, capsys):
    pool = gather([str(data)], labels)
    assert [labels[target] for target in pool.targets] == [label_of(path) for path in pool.paths]
    assert pool.names[0] == "/".join([*label_of(photos[0]), photos[0].name])
    plain = gather([str(photos[0].parent)], labels)
    assert {*plain.targets} == {UNKNOWN} and plain.names == tuple(photo.name for photo in photos)
    assert "taken as images without labels" in capsys.readouterr().err
    index = tmp_path / "index.csv"
    lines = [f"{photo},{','.join([*label_of(photo), ''][:3])}" for photo in photos]
    index.write_text("\n".join(["path,level_1,level_2,level_3", *lines]) + "\n")
    assert gather([str(index)], labels).targets == tuple(
        labels.index(label_of(photo)) for photo in photos
    )
    mixed = gather([str(photos[0]), str(index), str(photos[0].parent / "Fruit_K*.jpg")], labels)
    assert mixed.paths == tuple(photos) and UNKNOWN not in mixed.targets
    assert "3 images are given more than once" in capsys.readouterr().err


def test_labels_that_contradict(photos, labels, tmp_path):
    for name, label in (("one", "Fruit/Kiwi"), ("two", "Fruit/Lemon")):
        (folder := tmp_path / name / label).mkdir(parents=True)
        (folder / "x.jpg").symlink_to(photos[0])
    with pytest.raises(DataError, match="labelled both Fruit/Kiwi and Fruit/Lemon"):
        gather([str(tmp_path / "one"), str(tmp_path / "two")], labels)
    place(photos[0], tmp_path / "one", "Fruit", "Durian", "y.jpg")
    with pytest.raises(DataError, match="1 of its classes are none of the model's, first Fruit/D"):
        gather([str(tmp_path / "one")], labels)
    (tmp_path / "x.csv").write_text(f"path,label\n{photos[0]},Durian\n")
    with pytest.raises(DataError, match="Durian"):
        gather([str(tmp_path / "x.csv")], labels)
    with pytest.raises(UsageError, match="--split is for labelled data"):
        gather([str(photos[0])], labels, ["val"])
    with pytest.raises(UsageError, match="give it as a file"):
        gather(["-"], labels)


def test_images_that_cannot_be_read(photos, tmp_path):
    (tmp_path / "none").mkdir()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:9000])
    for error, name in (
        (InputMissingError, "none"),
        (InputMissingError, "no.jpg"),
        (InputMissingError, "*.bmp"),
        (ImageError, "cut.jpg"),
    ):
        with pytest.raises(error, match=re.escape(name)):
            run("grocery81", "grocery81", [str(photos[0]), str(tmp_path / name)])


def test_sides_that_cannot_be_opened(fp32, tmp_path):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 9)
    for suffix in (".npz", ".onnx", ".tflite"):
        shutil.copy(garbage, tmp_path / f"x{suffix}")
        with pytest.raises(EdgeFgrError):
            open_answerer(str(tmp_path / f"x{suffix}"))
        with pytest.raises(InputMissingError, match="no such"):
            open_answerer(str(tmp_path / f"none{suffix}"))
    with pytest.raises(InputMissingError, match="no run here"):
        open_answerer(str(tmp_path))
    with pytest.raises(InputMissingError, match="folder of the run"):
        open_answerer("run/model.safetensors")
    with pytest.raises(UsageError, match="not known"):
        open_answerer("grocery81", "tpu")
    with pytest.raises(UsageError, match="computed already"):
        open_answerer(str(fp32), "cpu")
    with pytest.raises(DeviceError):
        open_answerer(str(tmp_path / "x.tflite"), "cuda")


@pytest.mark.parametrize(
    "change",
    [
        {"logits": np.array([{1: 2}], dtype=object)},
        {"logits": np.ones((32, 81))},
        {"logits": np.ones((31, 81), np.float32)},
        {"labels": np.array(["[]"] * 81)},
        {"labels": np.array(["{"] * 81)},
        {"digests": np.array([])},
        {"names": np.array(["a"])},
        {"about": np.array("{}")},
        {"about": np.array("[]")},
        {"about": np.array(json.dumps({**asdict(ABOUT), "schema_version": 2}))},
        {"about": np.array(json.dumps({**asdict(ABOUT), "temperature": "hot"}))},
        {"more": np.array(1)},
    ],
    ids=str,
)
def test_golden_logits_are_read_strictly(fp32, change, tmp_path):
    with np.load(fp32) as file:
        content = dict(file)
    path = tmp_path / "x.npz"
    np.savez(path, **{**content, **change})
    with pytest.raises(ModelError, match=r"x\.npz: no golden logits"):
        read_golden(path)


def test_damaged_golden_logits(fp32, tmp_path):
    whole, path = fp32.read_bytes(), tmp_path / "x.npz"
    for content in (b"", b"PK\x05\x06" + bytes(18), whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no golden logits"):
            read_golden(path)
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with contextlib.suppress(ModelError):  # or the damage hit what nobody reads
            assert len(read_golden(path).rows) == 32


def test_outputs_that_cannot_be_meant(photos, fp32, tmp_path, capsys):
    def out(**files):
        outputs = tuple(files.get(name) for name in ("json", "page", "golden"))
        run(str(fp32), "grocery81", [str(photos[0])], outputs=outputs)

    before = fp32.read_bytes()
    for files, words in (
        ({"golden": fp32}, "is an input"),
        ({"json": photos[0]}, "is an input"),
        ({"json": tmp_path / "x", "page": tmp_path / "x"}, "another output"),
        ({"page": tmp_path}, "is a folder"),
        ({"golden": tmp_path / "x.onnx"}, r"\.npz"),
    ):
        with pytest.raises(UsageError, match=words):
            out(**files)
    assert fp32.read_bytes() == before and capsys.readouterr().out == ""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        out(json=tmp_path / "file" / "x.json")
    assert "labels agree" in capsys.readouterr().out  # the figures are not lost
    with pytest.raises(UsageError, match="--format csv"):
        run(str(fp32), "grocery81", [str(photos[0])], form="csv")
    with pytest.raises(UsageError, match="needs labelled"):
        run(str(fp32), "grocery81", [str(photos[0])], limits=(None, 1))
