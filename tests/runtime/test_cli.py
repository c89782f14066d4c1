"""The command line as a process: what stands on stdout and stderr, and how it exits."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
from PIL import Image

from edge_fgr.model import embedded
from pictures import opened

KEYS = [
    "schema_version", "file", "status", "label", "probability", "top_k", "model", "device", "ms",
    "verdict", "unknown", "set", "gate", "evidence", "error",
]  # fmt: skip


def records(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_one_line(result, *words: str) -> None:
    """One line on stderr that holds the words; never a traceback."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("edge-fgr: ")
    for word in words:
        assert word in lines[0]


@pytest.fixture
def folder(tmp_path, photos):
    for i, photo in enumerate(photos[:5]):
        place = tmp_path / "photos" / ("deep" if i % 2 else ".")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place / f"{i}.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


def test_table(cli, photos):
    result = cli("classify", photos[0], "-k", 3)
    assert result.returncode == 0 and result.stderr == ""
    rows = result.stdout.splitlines()
    assert len(rows) == 3 and photos[0].name in rows[0]
    assert " > " in rows[0] and "%" in rows[0]


def test_json_record(cli, photos):
    result = cli("classify", photos[0], "--format", "json")
    (record,) = json.loads(result.stdout)
    assert list(record) == KEYS
    assert record["schema_version"] == 1 and record["status"] == "ok" and record["error"] is None
    assert record["top_k"][0] == {"label": record["label"], "probability": record["probability"]}
    assert len(record["top_k"]) == 5
    assert set(record["model"]) == {"name", "version", "digest"}
    assert set(record["ms"]) == {"decode", "infer", "total"}
    assert list(record["verdict"]) == ["kind", "label", "probability", "reason"]
    assert record["verdict"]["kind"] == "class" and record["verdict"]["label"] == record["label"]
    assert record["set"] is record["gate"] is None and record["evidence"] is None
    assert list(record["unknown"]) == ["score", "threshold", "method"]


def test_folder_pattern_and_stdin(cli, folder, photos):
    found = records(cli("classify", "-r", folder, "--format", "jsonl"))
    assert [os.path.relpath(record["file"], folder) for record in found] == [
        "0.jpg", "2.jpg", "4.jpg", "deep/1.jpg", "deep/3.jpg",
    ]  # fmt: skip
    pattern = records(cli("classify", f"{folder}/**/[13].jpg", "--format", "jsonl"))
    assert [record["label"] for record in pattern] == [record["label"] for record in found[3:]]
    piped = subprocess.run(
        [sys.executable, "-m", "edge_fgr", "classify", "-", "--format", "jsonl"],
        input=photos[0].read_bytes(),
        capture_output=True,
        check=True,
    )
    record = json.loads(piped.stdout)
    assert record["file"] == "-" and record["label"] == found[0]["label"]


def test_threads_do_not_change_the_answer(cli, folder):
    def bare(threads):
        found = records(cli("classify", "-r", folder, "--format", "jsonl", "--threads", threads))
        return [{**record, "ms": None} for record in found]

    assert bare(1) == bare(2)


def test_region(cli, photos):
    def probability(*more):
        return json.loads(cli("classify", photos[0], "--format", "json", *more).stdout)[0]

    assert probability("--roi", "0,0,1,1")["top_k"] == probability()["top_k"]
    assert probability("--roi", "0,0,.3,.3")["top_k"] != probability()["top_k"]
    for bad in ("0,0,1", "a,b,c,d", "0.5,0,0.5,1", "0,0,2,1"):
        assert cli("classify", photos[0], "--roi", bad).returncode == 2


def test_csv_with_time_and_place(cli, photos, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825).update({1: "S", 2: (12.0, 30.0, 36.0), 3: "E", 4: (45.0, 15.0, 0.0)})
    path = tmp_path / "a, b.jpg"
    opened(photos[0]).save(path, exif=exif)
    result = cli("classify", path, photos[1], tmp_path / "no.jpg", "--format", "csv", "-k", 2)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert result.returncode == 65
    assert rows[0]["file"] == str(path) and rows[0]["exif_time"] == "2024-05-06T07:08:09"
    assert float(rows[0]["gps_latitude"]) == pytest.approx(-12.51)
    assert float(rows[0]["gps_longitude"]) == pytest.approx(45.25)
    assert rows[0]["label_2"] and rows[1]["exif_time"] == "" and rows[1]["gps_latitude"] == ""
    assert rows[2]["status"] == "error" and rows[2]["error_code"] == "66"
    assert rows[2]["verdict"] == rows[2]["set_labels"] == ""
    assert rows[1]["verdict"] == "class" and rows[1]["verdict_label"] == rows[1]["label"]
    assert float(rows[1]["unknown_score"]) >= float(rows[1]["unknown_threshold"])
    assert list(rows[0])[-6:-3] == ["set_labels", "evidence", "gate_label"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        ("truncated", ["truncated"]),
        ("zeros", ["truncated"]),
        (b"hello", ["not an image"]),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ["pillow-heif"]),
    ],
)
def test_files_that_are_not_whole_images(cli, tmp_path, photos, content, words):
    data = photos[0].read_bytes()
    if content == "truncated":
        content = data[: len(data) // 2]
    elif content == "zeros":
        content = data[: len(data) // 2] + bytes(len(data) // 2)
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    result = cli("classify", path)
    assert result.returncode == 65 and result.stdout == ""
    assert_one_line(result, "bad.jpg", *words)
    record = records(cli("classify", path, "--format", "jsonl"))[0]
    assert list(record) == KEYS and record["status"] == "error" and record["label"] is None
    assert record["error"]["code"] == 65 and "bad.jpg" in record["error"]["message"]


def test_other_inputs_that_fail(cli, tmp_path):
    missing = cli("classify", tmp_path / "absent.jpg")
    assert missing.returncode == 66
    assert_one_line(missing, "absent.jpg", "check the path")
    for place, code in ((tmp_path, 66), (f"{tmp_path}/*.jpg", 66)):
        assert cli("classify", place).returncode == code
    assert_one_line(cli("classify", tmp_path), "-r")
    assert cli("classify", "-r", tmp_path).returncode == 66  # a folder without images
    bomb_file = tmp_path / "bomb.bmp"
    bomb_file.write_bytes(
        b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    )  # fmt: skip
    result = cli("classify", bomb_file)
    assert result.returncode == 65
    assert_one_line(result, "megapixels")


def without_privilege() -> None:
    """Drop root's right to read everything (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; takes hold at exec


@pytest.mark.skipif(sys.platform != "linux", reason="permissions are dropped by prctl")
def test_file_that_may_not_be_read(tmp_path, photos):
    path = tmp_path / "secret.jpg"
    shutil.copy(photos[0], path)
    path.chmod(0)
    result = subprocess.run(
        [sys.executable, "-m", "edge_fgr", "classify", path],
        preexec_fn=without_privilege,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 77
    assert_one_line(result, "secret.jpg", "permissions")


@pytest.mark.skipif(sys.platform != "linux", reason="permissions are dropped by prctl")
def test_folder_that_may_not_be_read(folder):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "edge_fgr", "classify", "-r", *arguments],
            preexec_fn=without_privilege,
            capture_output=True,
            text=True,
            check=False,
        )

    (folder / "deep").chmod(0)
    alone, batch = run(folder / "deep"), run(folder, "--format", "jsonl")
    (folder / "deep").chmod(0o755)
    assert alone.returncode == 77
    assert_one_line(alone, "deep", "may not be read")
    assert batch.returncode == 65
    assert [record["status"] for record in records(batch)] == ["ok", "ok", "ok", "error"]


def test_wrong_models_devices_and_usage(cli, photos, tmp_path):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a model")
    result = cli("classify", photos[0], "-m", wrong)
    assert result.returncode == 78
    assert_one_line(result, "wrong.onnx")
    assert cli("classify", photos[0], "-m", tmp_path / "absent.onnx").returncode == 66
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        result = cli("classify", photos[0], "--device", "cuda")
        assert result.returncode == 69 and result.stdout == ""
        assert_one_line(result, "cuda", "onnxruntime-gpu")
    for arguments in (
        ["classify"],
        ["classify", photos[0], "--format", "xml"],
        ["classify", photos[0], "--device", "tpu"],
        ["classify", photos[0], "-k", "0"],
        ["classify", photos[0], "--no-such-option"],
        ["no-such-command"],
    ):
        result = cli(*arguments)
        assert result.returncode == 2, arguments
        assert_one_line(result)


def test_a_batch_classifies_all_others(cli, folder):
    data = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(data[: len(data) // 2])
    result = cli("classify", "-r", folder, folder / "absent.jpg", "--format", "jsonl")
    found = records(result)
    assert result.returncode == 65
    assert [record["status"] for record in found] == ["ok", "error", "ok", "ok", "ok", "error"]
    assert [record["error"]["code"] for record in found if record["error"]] == [65, 66]
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and "2 of 6 images failed" in lines[-1]


def test_resume(cli, folder, tmp_path):
    journal = tmp_path / "journal.jsonl"
    arguments = ("classify", "-r", folder, "--format", "jsonl", "--resume", journal)
    first = cli(*arguments)
    assert first.returncode == 0 and len(journal.read_text().splitlines()) == 6
    # Cut in the middle of a line, as a power failure would: the cut image is computed again.
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-40])
    marked = journal.read_bytes().replace(b'"probability": 0.', b'"probability": 9.', 1)
    journal.write_bytes(marked)
    second = cli(*arguments)
    assert second.returncode == 0
    before, after = records(first), records(second)
    assert after[0]["probability"] > 9  # taken from the journal, not computed again
    assert [{**r, "ms": 0} for r in after[1:]] == [{**r, "ms": 0} for r in before[1:]]
    assert after[1:4] == before[1:4] and after[4]["ms"] != before[4]["ms"]
    assert len(journal.read_text().splitlines()) == 6
    other = cli(*arguments, "-k", 2)
    assert other.returncode == 2
    assert_one_line(other, "journal.jsonl", "other options")


def test_failed_images_are_tried_again(cli, folder, tmp_path):
    journal = tmp_path / "journal.jsonl"
    good = (folder / "0.jpg").read_bytes()
    (folder / "0.jpg").write_bytes(b"")
    arguments = ("classify", "-r", folder, "--format", "jsonl", "--resume", journal)
    assert cli(*arguments).returncode == 65
    (folder / "0.jpg").write_bytes(good)
    result = cli(*arguments)
    assert result.returncode == 0 and records(result)[0]["status"] == "ok"


def test_reader_that_stops_reading(folder):
    command = f"{sys.executable} -m edge_fgr classify -r {folder} --format jsonl | head -c 10"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert len(result.stdout) == 10 and result.stderr == ""


def test_full_disk(photos):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "edge_fgr", "classify", photos[0], "--format", "json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 74
    assert_one_line(result, "No space left")


def test_strange_file_names(cli, tmp_path, photos):
    names = ["with space.jpg", "komma,\"quote'.jpg", "ümläut.jpg", "new\nline.jpg", b"\xff\xfe.jpg"]
    for name in names:
        shutil.copy(photos[0], os.path.join(os.fsencode(tmp_path), os.fsencode(name)))
    result = cli("classify", "-r", tmp_path, "--format", "jsonl")
    assert result.returncode == 0 and len(records(result)) == len(names)
    assert len(cli("classify", "-r", tmp_path).stdout.splitlines()) == len(names)
    assert cli("classify", "--", "-dash.jpg").returncode == 66


def test_inspect(cli, photos, tmp_path):
    result = cli("inspect")
    assert result.returncode == 0 and "grocery81" in result.stdout and "81" in result.stdout
    facts = json.loads(cli("inspect", embedded()["grocery81"], "--format", "json").stdout)
    assert facts["contract"]["name"] == "grocery81" and facts["file"]["bytes"] < 5_500_000
    assert [tensor["name"] for tensor in facts["inputs"]] == ["pixels"]
    assert cli("inspect", tmp_path / "absent.onnx").returncode == 66
    assert cli("inspect", photos[0]).returncode == 78


def test_version_and_help(cli):
    assert cli("--version").stdout.startswith("edge-fgr 0.")
    assert "classify" in cli("--help").stdout and "Usage" in cli().stdout + cli().stderr
    assert cli("classify", "--help").returncode == 0


def test_debug_shows_the_traceback(cli, tmp_path):
    result = cli("--debug", "classify", tmp_path / "absent.jpg")
    assert "Traceback" in result.stderr and "InputMissingError" in result.stderr


def test_warnings_of_libraries_stay_off_the_terminal(cli, tmp_path, photos):
    """Pillow warns about broken EXIF; the picture is whole, and stderr stays empty."""
    data = photos[0].read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0\x03\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    path = tmp_path / "exif.jpg"
    path.write_bytes(data[:2] + segment + data[2:])
    result = cli("classify", path)
    assert result.returncode == 0 and result.stderr == ""


def test_native_libraries_stay_off_the_terminal(cli, tmp_path, photos):
    """libtiff prints to descriptor 2 by itself; one line of ours is all that may be seen."""
    path = tmp_path / "cut.tif"
    opened(photos[0]).save(path, compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[:-9000])
    result = cli("classify", path)
    assert result.returncode == 65
    assert_one_line(result, "cut.tif")
    garbled = bytearray(path.read_bytes())
    garbled[2000:3000] = bytes(1000)
    path.write_bytes(garbled)
    assert_one_line(cli("classify", path), "cut.tif")


def test_names_cannot_command_the_terminal(cli, tmp_path):
    (tmp_path / "a\x1b[2Jb.jpg").write_bytes(b"")
    answer = cli("classify", tmp_path / "a\x1b[2Jb.jpg")
    assert answer.returncode == 65
    assert "\x1b" not in answer.stderr
    assert "a\\x1b[2Jb.jpg" in answer.stderr


def test_sigterm_ends_a_batch_whole(photos, tmp_path):
    """What was written is a whole JSON document; exit 143."""
    import signal

    copies = tmp_path / "many"
    copies.mkdir()
    for i in range(400):
        shutil.copy(photos[i % len(photos)], copies / f"{i:03}.jpg")
    command = [sys.executable, "-m", "edge_fgr", "classify", str(copies), "-r", "--format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, words = process.stdout.read(), process.stderr.read()
    records = json.loads(first + rest)
    assert process.returncode == 143 and 0 < len(records) < 400
    assert f"stopped after {len(records)} of 400 images" in words
