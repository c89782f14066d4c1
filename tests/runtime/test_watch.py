"""``edge-fgr watch`` as a process: folders that files drop into, videos, cameras, signals."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from edge_fgr.errors import InputMissingError, UsageError
from edge_fgr.frames import FolderSource
from edge_fgr.watch import Until, Watch, parse_until
from pictures import opened

WAIT = 60.0


class Watching:
    """A running ``edge-fgr watch``."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "edge_fgr", "watch", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def record(self) -> dict:
        """The next record; waits for it."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, list[dict], str]:
        """Exit code, what records were left, and stderr."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=WAIT)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def start():
    running = []

    def begin(*arguments: object) -> Watching:
        running.append(Watching(*arguments))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    return place


def drop(photo: Path, final: Path) -> None:
    """As careful writers do: under another name, then renamed."""
    beside = final.with_name(f".{final.name}.part")
    shutil.copy(photo, beside)
    beside.rename(final)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def until(condition) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_files_that_drop_into_a_folder(start, folder, photos, clf):
    shutil.copy(photos[0], folder / "there.jpg")
    run = start(folder)
    first = run.record()
    assert first["file"] == str(folder / "there.jpg") and first["status"] == "ok"
    drop(photos[1], folder / "renamed.jpg")
    (folder / "notes.txt").write_text("not an image")
    second = run.record()
    assert second["file"].endswith("renamed.jpg")
    assert second["label"] == list(clf(photos[1]).label)
    assert second["probability"] == round(clf(photos[1]).probability, 6)
    assert list(second)[-3:] == ["frame", "time", "quality"]
    assert second["frame"] is None and second["quality"]["fault"] is None
    assert second["time"].endswith("+00:00")
    code, rest, err = run.end()
    assert (code, rest) == (0, [])
    assert err == ("edge-fgr: 2 frames seen, 2 classified, 0 rejected, 0 failed, 0 dropped\n")


def test_a_slow_writer_is_waited_for(start, folder, photos):
    data = photos[0].read_bytes()
    run = start(folder, "--until", 1)
    with (folder / "slow.jpg").open("wb") as file:
        for at in range(0, len(data), len(data) // 4 + 1):
            file.write(data[at : at + len(data) // 4 + 1])
            file.flush()
            time.sleep(0.8)  # longer than a file must stand still
    assert run.record()["status"] == "ok"
    assert run.end(None)[0] == 0


def test_a_file_that_never_becomes_whole_is_reported_once(start, folder, photos):
    (folder / "half.jpg").write_bytes(photos[0].read_bytes()[:5000])
    run = start(folder, "--grace", 1.5)
    record = run.record()
    assert record["status"] == "error" and record["error"]["kind"] == "truncated"
    drop(photos[1], folder / "good.jpg")
    assert run.record()["file"].endswith("good.jpg")
    drop(photos[2], folder / "half.jpg")  # written anew: another picture
    assert run.record()["file"].endswith("half.jpg")
    code, rest, err = run.end()
    assert (code, rest) == (0, [])
    assert "3 frames seen, 2 classified, 0 rejected, 1 failed, 0 dropped" in err


def test_restart_after_a_half_written_line(start, folder, tmp_path, photos):
    out = tmp_path / "out.jsonl"
    for i in range(3):
        drop(photos[i], folder / f"{i}.jpg")
    (folder / "bad.jpg").write_bytes(b"no image")
    run = start(folder, "--out", out, "--grace", 0.5)
    until(lambda: out.exists() and out.read_bytes().count(b"\n") == 4)
    assert run.end()[:2] == (0, [])
    whole = out.read_bytes()
    last = json.loads(whole.splitlines()[-1])["file"]
    out.write_bytes(whole[:-20])
    drop(photos[3], folder / "new.jpg")
    run = start(folder, "--out", out, "--grace", 0.5, "--until", 2)
    assert run.end(None)[0] == 0
    found = [record["file"] for record in lines(out)]
    assert len(found) == 5 and len(set(found)) == 5
    assert sorted(found[3:]) == sorted([last, str(folder / "new.jpg")])


def test_out_is_not_written_over_something_else(cli, folder, tmp_path):
    (tmp_path / "notes.txt").write_text("dear diary\n")
    result = cli("watch", folder, "--out", tmp_path / "notes.txt")
    assert result.returncode == 74 and "holds a line that is no record" in result.stderr
    assert (tmp_path / "notes.txt").read_text() == "dear diary\n"


def test_sigterm_in_the_middle_leaves_whole_lines(start, folder, tmp_path, photos):
    out = tmp_path / "out.jsonl"
    for i in range(150):
        shutil.copy(photos[i % len(photos)], folder / f"{i}.jpg")
    run = start(folder, "--out", out)
    until(lambda: out.exists() and out.stat().st_size > 0)
    code, _, err = run.end()
    assert code == 0 and "frames seen" in err
    written = out.read_bytes()
    assert written.endswith(b"\n")
    done = len(lines(out))
    if done < 150:
        assert start(folder, "--out", out, "--until", 150 - done).end(None)[0] == 0
    found = [record["file"] for record in lines(out)]
    assert len(found) == len(set(found)) == 150


def test_interrupt_is_130(start, folder, photos):
    drop(photos[0], folder / "a.jpg")
    run = start(folder)
    run.record()
    code, _, err = run.end(signal.SIGINT)
    assert code == 130 and "1 frames seen, 1 classified" in err


@pytest.mark.parametrize(("mode", "status"), [("reject", "rejected"), ("report", "ok")])
def test_pictures_at_fault(cli, folder, mode, status):
    Image.new("RGB", (300, 300)).save(folder / "black.png")
    result = cli("watch", folder, "--until", 1, "--quality", mode)
    (record,) = map(json.loads, result.stdout.splitlines())
    assert result.returncode == 0 and record["status"] == status and record["error"] is None
    assert record["quality"]["fault"] == "black"
    assert (record["label"] is None) == (mode == "reject")


def test_quality_off(cli, folder):
    Image.new("RGB", (300, 300)).save(folder / "black.png")
    result = cli("watch", folder, "--until", 1, "--quality", "off")
    record = json.loads(result.stdout)
    assert record["status"] == "ok" and record["quality"] is None


def test_a_turned_photo_is_turned_once(cli, folder, photos, clf):
    exif = Image.Exif()
    exif[0x0112] = 6
    opened(photos[0]).rotate(90, expand=True).save(
        folder / "turned.jpg", exif=exif, quality=95, subsampling=0
    )
    record = json.loads(cli("watch", folder, "--until", 1).stdout)
    same = clf(folder / "turned.jpg")
    assert record["label"] == list(same.label)
    assert record["probability"] == round(same.probability, 6)


def test_files_that_go_away_or_are_folders(folder, photos, clf):
    (folder / "deep.jpg").mkdir()
    drop(photos[0], folder / "a.jpg")
    source = FolderSource(str(folder), clf.contract.geometry, settle=0.0, poll=0.01)
    (folder / "a.jpg").unlink()
    drop(photos[1], folder / "b.jpg")
    (record,) = Watch(clf, source, until=Until(records=1))
    assert record["file"] == str(folder / "b.jpg")


def test_a_folder_that_goes_away(folder, photos, clf):
    drop(photos[0], folder / "a.jpg")
    source = FolderSource(str(folder), clf.contract.geometry, settle=0.0, poll=0.01, retry=0.2)
    found = []
    with pytest.raises(InputMissingError, match="no such folder"):
        for record in Watch(clf, source):
            found.append(record["file"])
            shutil.rmtree(folder)
    assert len(found) == 1


def test_until():
    assert parse_until("100") == Until(records=100)
    assert parse_until("90s") == Until(seconds=90.0)
    assert parse_until("1.5h") == Until(seconds=5400.0)
    for wrong in ("0", "-3", "soon", "s", "", "1.5", "nans"):
        with pytest.raises(UsageError, match="--until"):
            parse_until(wrong)


def test_what_cannot_be_meant(cli, folder, tmp_path):
    for arguments, code, word in (
        ([tmp_path / "nowhere"], 66, "no such folder, video or camera"),
        ([folder, "--every", 1], 2, "--every"),
        ([folder, "--quality", "high"], 2, "--quality"),
        ([folder, "--until", "soon"], 2, "--until"),
        ([folder, "--out", folder], 74, "is not a file"),
        ([folder, "--out", "/dev/full"], 74, "is not a file"),
    ):
        result = cli("watch", *arguments)
        assert result.returncode == code, result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("edge-fgr: ") and word in line


# Videos and cameras: PyAV is an extra.


def write_video(path: Path, pictures: list[Image.Image], rate: int = 10, **metadata: str) -> None:
    import av

    with av.open(str(path), "w") as out:
        out.metadata.update(metadata)
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = 320, 240
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_image(picture.resize((320, 240)))))
        out.mux(stream.encode())


@pytest.fixture
def video(tmp_path, photos) -> Path:
    pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    write_video(path, [opened(photos[i // 2]).convert("RGB") for i in range(30)])
    return path


def records(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_frame_of_a_video(cli, video):
    result = cli("watch", video)
    assert result.returncode == 0, result.stderr
    found = records(result)
    assert [record["frame"] for record in found] == list(range(30))
    assert {record["status"] for record in found} == {"ok"}
    assert {record["time"] for record in found} == {None}
    assert found[1]["quality"]["change"] is not None
    assert "30 frames seen, 30 classified, 0 rejected, 0 failed, 0 dropped" in result.stderr


def test_some_frames_of_a_video(cli, video):
    found = records(cli("watch", video, "--every", 0.5, "--until", 4))
    assert [record["frame"] for record in found] == [0, 5, 10, 15]


def test_a_video_that_knows_its_time(cli, tmp_path, photos):
    pytest.importorskip("av")
    path = tmp_path / "film.mkv"
    picture = opened(photos[0]).convert("RGB")
    write_video(path, [picture] * 3, creation_time="2026-03-01T12:00:00.000000Z")
    found = records(cli("watch", path))
    assert found[2]["time"] == "2026-03-01T12:00:00.200000+00:00"


def test_a_frozen_video_is_rejected(cli, tmp_path, photos):
    av = pytest.importorskip("av")
    path = tmp_path / "frozen.mkv"
    picture = opened(photos[0]).convert("RGB").resize((320, 240))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(30):
            out.mux(stream.encode(av.VideoFrame.from_image(picture)))
        out.mux(stream.encode())
    found = records(cli("watch", path))
    assert [record["status"] for record in found] == ["ok"] * 20 + ["rejected"] * 10
    assert found[-1]["quality"]["fault"] == "frozen"


def test_videos_that_are_none_or_damaged(cli, tmp_path, video):
    (tmp_path / "text.mp4").write_text("no video")
    result = cli("watch", tmp_path / "text.mp4")
    assert result.returncode == 65 and "not a video" in result.stderr
    data = bytearray(video.read_bytes())
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    result = cli("watch", tmp_path / "half.mp4")
    assert result.returncode == 65 and len(result.stderr.splitlines()) == 1


def test_a_camera_that_is_not_there(cli):
    pytest.importorskip("av")
    result = cli("watch", "/dev/video99")
    assert result.returncode == 69
    (line,) = result.stderr.splitlines()
    assert "/dev/video99: no such camera" in line


def test_without_the_extra(video):
    """A process in which ``av`` cannot be imported."""
    code = (
        "import sys; sys.modules['av'] = None\n"
        f"sys.argv = ['edge-fgr', 'watch', {str(video)!r}]\n"
        "from edge_fgr.start import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 69 and "pip install 'edge-fgr[camera]'" in result.stderr


def lavfi(source: str) -> str:
    av = pytest.importorskip("av")
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV has no lavfi")
    return f"lavfi:{source}"


def test_a_camera_drops_rather_than_falls_behind(cli):
    """Frames come as fast as they can be made: far faster than they are classified."""
    result = cli("watch", lavfi("testsrc=size=64x64"), "--until", 20)
    assert result.returncode == 0, result.stderr
    found = records(result)
    assert len(found) == 20
    numbers = [record["frame"] for record in found]
    assert numbers == sorted(set(numbers))
    dropped = int(result.stderr.split()[-2])
    assert dropped > 0 and dropped >= numbers[-1] - numbers[0] - 19


def test_sigterm_ends_a_camera(start):
    run = start(lavfi("testsrc=rate=20,realtime"), "--quality", "off")
    run.record()
    code, rest, err = run.end()
    assert code == 0 and "frames seen" in err
    assert all(record["status"] == "ok" for record in rest)


def test_a_camera_that_comes_back(cli):
    """The source ends after four frames, again and again, as with a loose cable."""
    result = cli("watch", lavfi("testsrc=duration=0.2:rate=20,realtime"), "--until", 10)
    assert result.returncode == 0, result.stderr
    assert len(records(result)) == 10
    assert "camera lost (the stream ended); trying again" in result.stderr


class _IpCamera(http.server.BaseHTTPRequestHandler):
    """An IP camera as many are: JPEGs one after another in one answer."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for name in self.server.photos:
            data = name.read_bytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.1)
        self.server.given.set()

    def log_message(self, *_):
        pass


def test_a_camera_that_stays_away(start, photos):
    """An IP camera sends ten pictures, then its plug is pulled."""
    pytest.importorskip("av")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _IpCamera)
    server.photos, server.given = photos[:10], threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    run = start(f"http://127.0.0.1:{server.server_port}/video", "--retry", 2)
    first = run.record()
    assert first["status"] == "ok" and first["frame"] is not None
    assert server.given.wait(WAIT)
    server.shutdown()
    server.server_close()
    thread.join()
    code, _, err = run.end(None)
    assert code == 69
    *_, counts, last = err.splitlines()
    assert "frames seen" in counts
    assert "camera lost" in last and "not back within 2 s" in last


def test_permissions(cli, folder):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder.chmod(0)
    result = cli("watch", folder)
    folder.chmod(0o700)
    assert result.returncode == 77
