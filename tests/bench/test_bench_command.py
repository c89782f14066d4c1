"""``edge-fgr bench`` through the real command line, on real photographs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_models import changed, failing, labelled_folder, linear, truth_of
from test_streams import children_of

from edge_fgr.providers import present
from edge_fgr_bench.document import read_document
from edge_fgr_bench.samples import PHASES

FEW = ("--queries", 16, "--seconds", 0, "--cold-runs", 1, "--corruption-images", 1)
ACCURACY = ("--parts", "accuracy")


@pytest.fixture(scope="module")
def models(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(
        changed=changed(folder / "changed.onnx", spread=2.0),
        linear=linear(folder / "linear.onnx", photos),
        half=linear(folder / "half.onnx", photos[::2]),
        fails=failing(folder / "fails.onnx", sorted({*map(truth_of, photos)}), photos[9]),
    )


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory):
    return labelled_folder(photos, tmp_path_factory.mktemp("data") / "shelf")


def summary_of(run):
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary["schema_version"] == 1 and summary["kind"] == "edge-fgr bench summary"
    return summary


def accuracy(cli, tmp_path, *arguments):
    """Run the accuracy part; return what it said and the document."""
    out = tmp_path / "run.json"
    run = cli("bench", *arguments, *ACCURACY, "--json", out)
    return run, read_document(out)


BLOCKED = """
import sys
class Blocked:
    names = {"torch", "torchvision", "scipy", "onnx", "sklearn", "jinja2", "matplotlib", "timm",
             "safetensors"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """Run the command line, and whatever it starts, without the packages of the extras."""
    place = tmp_path_factory.mktemp("light")
    (place / "sitecustomize.py").write_text(BLOCKED)
    environment = os.environ | {"PYTHONPATH": str(place)}

    def run(*arguments):
        command = [sys.executable, "-m", "edge_fgr", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=environment
        )

    return run


@pytest.fixture(scope="module")
def latencies(cli, light, models, data, photos, tmp_path_factory):
    """Three runs with a latency part, side by side: they take their seconds, and no test times."""
    folder = tmp_path_factory.mktemp("latencies")

    def outputs(name):
        return ("--json", folder / f"{name}.json", "--markdown", folder / f"{name}.md")

    page, title = ("--html", folder / "whole.html"), ("--title", "Shelf, spring")
    embedded, flat = "grocery81", photos[0].parent
    asked = {
        "whole": (cli, embedded, models.changed, data, "--parts", "all", *page, *title),
        "failing": (cli, models.linear, models.fails, data),
        "light": (light, embedded, flat),
    }
    with ThreadPoolExecutor() as pool:
        runs = {
            name: pool.submit(run, "bench", *arguments, *FEW, *outputs(name))
            for name, (run, *arguments) in asked.items()
        }
    return SimpleNamespace(
        folder=folder,
        run={name: run.result() for name, run in runs.items()},
        document={
            name: read_document(folder / f"{name}.json")
            for name in asked
            if (folder / f"{name}.json").exists()
        },
    )


@pytest.fixture(scope="module")
def whole(latencies):
    """A run of all parts: the embedded model and its changed copy."""
    run = latencies.run["whole"]
    assert run.returncode == 0, run.stderr
    return SimpleNamespace(run=run, folder=latencies.folder, document=latencies.document["whole"])


def test_a_run_says_what_it_found(whole):
    lines = whole.run.stdout.splitlines()
    assert lines[0].split()[:2] == ["Key", "Model"] and "p90, ms" in lines[0]
    assert any(line.startswith("B    changed") for line in lines)
    for title in ("Percentiles by phase, ms", "What ran, and what the machine did meanwhile"):
        assert title in lines
    summary = summary_of(whole.run)
    assert summary["broken"] == summary["missing"] == []
    one, other = summary["figures"]
    assert (one["file"], one["name"], one["device"]) == ("grocery81", "grocery81", "cpu")
    assert 80 < one["top1"] < 95 and one["p50_ms"] > 0 and one["cold_ms"] > one["p99_ms"]
    assert other["drop"] == pytest.approx(one["top1"] - other["top1"])
    assert {"images_per_s", "memory_mib", "size_mib", "robust_top1"} <= set(one)


def test_the_document_holds_every_sample(whole):
    made = whole.document
    assert made.complete and made.title == "Shelf, spring" and not made.missing
    assert made.settings.parts == ("latency", "accuracy", "robustness")
    assert [c.key for c in made.candidates] == ["A", "B"]
    for latency in made.latency:
        assert latency.error is None
        answered = sum(block.queries for block in latency.blocks)
        assert answered >= 16
        assert {phase: len(row) for phase, row in latency.us.items()} == dict.fromkeys(
            PHASES, answered
        )
        assert len(latency.cold_ms) == len(latency.cold_kib) == 1
        assert len(latency.images_per_s) == 3 and len(latency.load_ms) == 5
    assert (made.images.count, made.images.labelled) == (32, 32)
    assert len(made.accuracy.names) == 32 and len(made.accuracy.pairs) == 1
    assert made.robustness.images == 1 and made.seconds > 0


def test_answers_are_those_of_the_classifier(whole, clf, data):
    accuracy = whole.document.accuracy
    answers = [clf(data / name).label for name in accuracy.names]
    labels = whole.document.candidates[0].labels
    assert [labels[place] for place in accuracy.judged[0].best] == answers
    right = sum(a == b for a, b in zip(answers, accuracy.truths, strict=True))
    assert accuracy.judged[0].top1.value == right / 32


def test_reports_are_written(whole):
    html = (whole.folder / "whole.html").read_text()
    assert html.lower().startswith("<!doctype html") and "Shelf, spring" in html
    markdown = (whole.folder / "whole.md").read_text()
    assert "Shelf, spring" in markdown and "grocery81" in markdown and "| ---" in markdown


def test_images_without_labels_still_agree(cli, models, photos, tmp_path):
    run, made = accuracy(cli, tmp_path, models.linear, models.half, photos[0].parent)
    assert run.returncode == 0 and "agreement alone was measured" in run.stdout
    assert made.images.labelled == 0 and made.images.count == 32
    figures = summary_of(run)["figures"][1]
    assert 30 < figures["agreement"] < 100 and not {"top1", "drop"} & set(figures)
    assert "agreement alone" in summary_of(run)["missing"][0]


def test_labels_that_a_model_does_not_know_are_left_out(cli, photos, tmp_path):
    folder = labelled_folder(photos[10:], tmp_path / "shelf")
    some = linear(tmp_path / "some.onnx", photos[:16])
    none = linear(tmp_path / "none.onnx", photos[:10])
    run, made = accuracy(cli, tmp_path, some, none, folder)
    assert run.returncode == 0
    one, other = made.accuracy.judged
    assert (one.images, one.left_out, one.top1.value) == (6, 16, 1.0)
    assert (other.images, other.left_out, other.top1) == (0, 22, None)
    assert "A: 16 images are of classes that it does not know" in run.stdout
    assert "B: knows none of the images' classes; it has no accuracy here" in run.stdout


def test_different_classes_are_not_compared(cli, models, data, tmp_path):
    run, made = accuracy(cli, tmp_path, models.linear, "grocery81", data)
    assert run.returncode == 0 and made.accuracy.pairs == ()
    assert "A and B have different classes" in run.stdout
    assert not any("agreement" in figures for figures in summary_of(run)["figures"])


def test_one_image_is_one_image(cli, models, photos, tmp_path):
    run, made = accuracy(cli, tmp_path, models.linear, photos[3])
    assert run.returncode == 0 and made.images.count == 1
    assert "one image: the figures are of this image alone" in run.stdout


def test_broken_images_are_left_out_and_said(cli, models, photos, tmp_path):
    folder = labelled_folder(photos, tmp_path / "shelf")
    broken = folder / "Fruit" / "Banana" / "broken.jpg"
    broken.write_bytes(photos[8].read_bytes()[:3000])
    run, made = accuracy(cli, tmp_path, models.linear, folder)
    assert run.returncode == 0 and made.complete
    assert (made.images.count, made.images.labelled) == (32, 32)
    assert made.accuracy.judged[0].images == 32
    (line,) = made.images.broken
    assert "broken.jpg" in line and "broken.jpg" in run.stdout


GATES = """
[[gate]]
model = "linear"
min_top1 = 99.9
max_size_mib = 1
[[gate]]
min_top1 = {least}
"""


def test_gates_that_are_kept(cli, models, data, tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text(GATES.format(least=40))
    run, _ = accuracy(cli, tmp_path, models.linear, models.half, data, "--gate", gates)
    assert run.returncode == 0 and "gate" not in run.stderr
    kept = [line for line in run.stdout.splitlines() if line.startswith("kept: ")]
    assert len(kept) == 4 and "B half fp32 on cpu: top1" in kept[3]
    assert summary_of(run)["broken"] == []


def test_a_broken_gate_is_an_exit_code_and_a_line(cli, models, data, tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text(GATES.format(least=99.5))
    page = tmp_path / "page.html"
    run, made = accuracy(
        cli, tmp_path, models.linear, models.half, data, "--gate", gates, "--html", page
    )
    assert run.returncode == 1 and made.complete and page.exists()
    value = f"{100 * made.accuracy.judged[1].top1.value:.4g}"
    broken, last = run.stderr.splitlines()
    assert broken == f"gate broken: B half fp32 on cpu: top1 {value} < 99.5 (min_top1)"
    assert last == "edge-fgr: 1 of 4 limits are broken"
    assert summary_of(run)["broken"] == [broken.removeprefix("gate broken: ")]


def test_a_limit_on_what_was_not_measured_is_broken(cli, models, data, tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text("[[gate]]\nmax_p90_ms = 1e6\n")
    run, _ = accuracy(cli, tmp_path, models.linear, data, "--gate", gates)
    assert run.returncode == 1
    assert "A linear fp32 on cpu: max_p90_ms 1e+06: was not measured" in run.stderr


def test_a_baseline_is_kept_and_broken(cli, models, data, photos, tmp_path):
    _, earlier = accuracy(cli, tmp_path, models.linear, data)
    (tmp_path / "run.json").rename(tmp_path / "earlier.json")
    gates = tmp_path / "gates.toml"
    gates.write_text('[baseline]\nfile = "earlier.json"\ndrop = 1\n')
    run, _ = accuracy(cli, tmp_path, models.linear, data, "--gate", gates)
    assert run.returncode == 0 and "kept: A linear fp32 on cpu against" in run.stdout
    worse = linear(tmp_path / "linear.onnx", photos[::2])
    run, made = accuracy(cli, tmp_path, worse, data, "--gate", gates)
    assert run.returncode == 1 and made.complete
    before, now = (d.accuracy.judged[0].top1.value for d in (earlier, made))
    assert now < before
    (line,) = [text for text in run.stderr.splitlines() if text.startswith("gate broken: ")]
    assert f"top1 {100 * now:.4g}, was {100 * before:.4g}, limit {100 * before - 1:.4g}" in line


def test_a_gate_that_names_no_candidate_is_broken(cli, models, data, tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text('[[gate]]\nmodel = "linaer"\nmin_top1 = 1\n')
    run = cli("bench", models.linear, data, *ACCURACY, "--gate", gates)
    assert run.returncode == 1 and "linear" in run.stdout
    assert "gate broken: gate: model 'linaer' on device '*' names no candidate" in run.stderr


def test_the_baseline_is_no_place_for_the_outcome(cli, models, data, whole, tmp_path):
    """Written first, it would be held against itself and kept."""
    baseline = tmp_path / "run.json"
    baseline.write_text(whole.document.to_json())
    gates = tmp_path / "gates.toml"
    gates.write_text('[baseline]\nfile = "run.json"\n')
    run = cli("bench", models.linear, data, *ACCURACY, "--gate", gates, "--json", baseline)
    assert run.returncode == 2 and "choose another name" in run.stderr
    assert read_document(baseline) == whole.document


def gate(text):
    """Return arguments with a file of limits."""

    def arguments(place):
        (place.folder / "gates.toml").write_text(text)
        return [place.model, place.data, "--gate", place.folder / "gates.toml"]

    return arguments


def images(content):
    def arguments(place):
        (place.folder / "images").mkdir()
        if content:
            (place.folder / "images" / "a.jpg").write_bytes(content)
        return [place.model, place.folder / "images"]

    return arguments


def options(*given):
    return lambda place: [place.model, place.data, *given]


WRONG = {
    "gate of an unknown key": (gate("[[gate]]\nmax_speed = 3\n"), 2, "'max_speed'"),
    "gate of no limit": (gate('[[gate]]\nmodel = "x"\n'), 2, "asks nothing"),
    "gate that is no TOML": (gate("max_p90_ms: 3\n"), 2, "not TOML"),
    "gate that is not there": (options("--gate", "absent.toml"), 66, "absent.toml"),
    "baseline that is not there": (gate('[baseline]\nfile = "b.json"\n'), 66, "b.json"),
    "baseline of another kind": (gate('[baseline]\nfile = "gates.toml"\n'), 65, "not JSON"),
    "output over the model": (
        lambda p: [p.model, p.data, "--markdown", p.model], 2, "is an input or another output",
    ),
    "two outputs of one name": (
        options("--markdown", "x.out", "--html", "x.out"), 2, "is an input or another output",
    ),
    "unknown form": (options("--format", "xml"), 2, "none of table, json"),
    "unknown device": (options("--device", "tpu"), 2, "'tpu'"),
    "unknown part": (options("--parts", "accuracy,speed"), 2, "--parts speed"),
    "options for the CPU": (options("--device-option", "a=b"), 2, "--device-option"),
    "all images broken": (images(b"\xff\xd8\xff\xe0 no more"), 65, "none of its 1 images"),
    "no images": (images(b""), 66, "images"),
    "no folder": (lambda p: [p.model, p.folder / "absent"], 66, "absent"),
    "missing model": (lambda p: [p.model, "absent.onnx", p.data], 66, "absent.onnx: no such"),
    "a photo as the model": (lambda p: [p.photo, p.data], 78, ".jpg"),
    "model twice": (lambda p: [p.model, p.model, p.data], 2, "is given twice"),
    "no model": (lambda p: [p.data], 2, "MODEL"),
    "split of no labels": (lambda p: [p.model, p.photo, "--split", "val"], 2, "--split"),
}  # fmt: skip


@pytest.fixture(scope="module")
def mistakes(cli, models, data, photos, tmp_path_factory):
    """Return what each mistake ends in, by its name; two run at a time."""
    root = tmp_path_factory.mktemp("mistakes")

    def run(name):
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        place = SimpleNamespace(folder=folder, model=models.linear, data=data, photo=photos[0])
        wanted = ("--parts", "latency", *FEW, "--json", folder / "run.json")
        return cli("bench", *wanted, *WRONG[name][0](place))

    before = models.linear.read_bytes()
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(WRONG, pool.map(run, WRONG), strict=True))
    assert models.linear.read_bytes() == before
    assert not list(root.rglob("run.json"))  # nothing was measured
    return found


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_one_line_and_nothing_is_measured(mistakes, name):
    run, (_, code, word) = mistakes[name], WRONG[name]
    assert (run.returncode, run.stdout) == (code, ""), run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith("edge-fgr: ") and word in line


@pytest.mark.skipif("cuda" in present(), reason="this onnxruntime has CUDA")
@pytest.mark.parametrize("parts", ["latency", "accuracy"])
def test_a_device_that_is_not_there_is_an_error(cli, models, data, tmp_path, parts):
    out = tmp_path / "run.json"
    devices = ("--device", "cpu", "--device", "cuda")
    run = cli("bench", models.linear, data, *devices, *FEW, "--parts", parts, "--json", out)
    assert (run.returncode, run.stdout) == (69, "") and not out.exists()
    (line,) = run.stderr.splitlines()
    assert "cuda" in line


def test_a_model_that_fails_in_the_middle_takes_nothing_else_with_it(latencies):
    """Its inference fails for one photo of all, in the latency part."""
    run, made = latencies.run["failing"], latencies.document["failing"]
    assert run.returncode == 69
    last = run.stderr.splitlines()[-1]
    assert last.startswith("edge-fgr: B failed in the middle (") and "inference failed" in last
    assert made.complete
    one, failed = made.latency
    assert "fails.onnx: inference failed" in failed.error
    assert len(failed.cold_ms) == 1 and len(failed.load_ms) == 5 and failed.us is None
    assert one.error is None and len(one.us["whole"]) >= 16 and len(one.images_per_s) == 3
    assert [judged.key for judged in made.accuracy.judged] == ["A"]
    assert any("B: failed in the latency part" in line for line in made.missing)
    assert "Ended early: B, timing" in run.stdout
    assert "p50_ms" in summary_of(run)["figures"][0]


def test_a_model_that_fails_in_the_accuracy_part(cli, models, data, tmp_path):
    run, made = accuracy(cli, tmp_path, models.fails, models.linear, data)
    assert run.returncode == 69 and made.complete
    failed, one = made.accuracy.judged
    assert "inference failed" in failed.error and failed.best == ()
    assert one.top1.value == 1 and one.error is None
    assert "A failed in the middle" in run.stderr and "Ended early: A, answers" in run.stdout


def seconds_of(pid):
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are found in /proc")
@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="run where interrupts are ignored"
)
def test_what_was_measured_before_an_interrupt_stands_in_the_file(models, data, tmp_path):
    out = tmp_path / "run.json"
    command = [sys.executable, "-m", "edge_fgr", "bench", str(models.linear), str(data)]
    command += ["--seconds", "600", "--cold-runs", "1", "--json", str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline, streams = time.monotonic() + 120, []
            # Opening and warming up take it less than 2 s of processor time: then it is timed.
            while not streams or seconds_of(streams[0]) < 2.5:
                assert time.monotonic() < deadline and process.poll() is None
                known = children_of(process.pid)
                streams = [pid for pid in known if "edge_fgr_bench.stream_child" in known[pid]]
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and stdout == "" and "Traceback" not in stderr
    assert "edge-fgr: interrupted" in stderr
    made = read_document(out)
    assert not made.complete and made.accuracy is None
    (latency,) = made.latency
    assert len(latency.us["whole"]) == sum(block.queries for block in latency.blocks) > 0
    assert len(latency.cold_ms) == 1 and latency.error is None
    assert not Path(f"/proc/{streams[0]}").exists()


INSTALL = "is missing; pip install 'edge-fgr[bench]'"


def test_a_light_install_measures_latency(light, latencies):
    run, made = latencies.run["light"], latencies.document["light"]
    assert run.returncode == 0, run.stderr
    assert run.stderr.startswith("edge-fgr: accuracy: ") and INSTALL in run.stderr
    assert made.settings.parts == ("latency",) and made.accuracy is None and made.complete
    assert INSTALL in made.missing[0] and len(made.latency[0].us["whole"]) >= 16
    assert INSTALL in run.stdout and "| ---" in (latencies.folder / "light.md").read_text()
    again = light("bench-report", latencies.folder / "light.json")
    assert again.returncode == 0 and "p50_ms" in summary_of(again)["figures"][0]


@pytest.mark.parametrize(
    ("given", "what"),
    [(ACCURACY, "accuracy"), (("--html", "x.html"), "--html"), (("--parts", "all"), "accuracy")],
)
def test_a_light_install_says_what_it_lacks(light, photos, tmp_path, given, what):
    out = tmp_path / "run.json"
    run = light("bench", "grocery81", photos[0], *FEW, *given, "--json", out)
    assert (run.returncode, run.stdout) == (69, "") and not out.exists()
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"edge-fgr: {what}: the package ") and line.endswith(INSTALL)


def test_a_document_is_the_output_when_asked_for(cli, models, data):
    run = cli("bench", models.linear, data, *ACCURACY, "--format", "json")
    document = json.loads(run.stdout)
    assert run.returncode == 0 and document["complete"] and document["kind"] == "edge-fgr bench"
    assert document["accuracy"]["judged"][0]["top1"]["value"] == 1
