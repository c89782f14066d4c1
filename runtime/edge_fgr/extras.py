"""Commands of the extras: their arguments stand here, their work in packages reached by name."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_fgr.errors import MissingExtraError, UsageError

__all__ = [
    "add_to",
    "check",
    "export",
    "features",
    "heavy",
    "inspect_graph",
    "split",
    "train",
    "verify",
]

_DATA_HELP = "A folder (one that holds images is a class), a .csv index, or NAME:FOLDER."

Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA_HELP)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Form = Annotated[str, typer.Option("--format", help="table or json.")]

_data = typer.Typer(
    help="Look at labelled photographs before they are trained on (extra: train).",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (train, features, export, verify):
        app.command()(command)
    app.add_typer(_data, name="data")


def train(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help=f"{_DATA_HELP} With --qat: that of the run."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="A .toml file or the name of a shipped recipe (default; chain with --head; "
            "few-shots with --shots).",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, replaces the recipe's.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="svm, logreg, cosine, prototype or whitened: a classifier on embeddings, "
            "no fine-tuning."
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(help="Fit so many images of each class, drawn by data.draw; no others."),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(help="With --head, what is kept: none, pca:K, mic:K or lda:K."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="With --head: a backbone's name, a run or a .onnx."),
    ] = None,
    l2: Annotated[
        bool, typer.Option("--l2", help="With --head: embeddings scaled to length 1.")
    ] = False,
    size: Annotated[
        str,
        typer.Option(help="Side of the input in pixels, or auto: from the pictures to fit."),
    ] = "",
    qat: Annotated[
        Path | None,
        typer.Option(help="Fine-tune this run for INT8, where export says that INT8 costs much."),
    ] = None,
    imbalance: Annotated[
        str,
        typer.Option(
            help="auto chooses by the images of each class what is done for rare ones, and says "
            "it; none leaves it to the recipe."
        ),
    ] = "none",
    device: Device = "auto",
) -> None:
    """Train a network, or a classifier on embeddings, on labelled photographs (extra: train)."""
    if qat is not None:
        if recipe or head or select or model or l2 or size or shots is not None:
            raise UsageError(
                "--qat takes recipe, network and images from its run; leave --recipe, --head, "
                "--select, --model, --l2, --size and --shots out"
            )
        if imbalance != "none":
            raise UsageError("--imbalance has no meaning with --qat, which looks at no labels")
        heavy("train", "command").run_qat(qat, data, output, changes or (), device)
        return
    if data is None:
        raise UsageError("DATA is missing: what to train on; only --qat knows it from its run")
    wanted = list(changes or [])
    wanted += [f'chain.head="{head}"'] if head else []
    wanted += [f'chain.select="{select}"'] if select else []
    wanted += ["model.l2=true"] if l2 else []
    if shots is not None:
        if shots < 1:
            raise UsageError(f"--shots {shots}: at least one image of each class is needed")
        wanted.append(f"data.shots={shots}")
    chained = head is not None or select is not None
    if (model or l2) and not chained and recipe is None and shots is None:
        raise UsageError("--model and --l2 are for chains; add --head svm or --head logreg")
    name = recipe or ("chain" if chained else "default" if shots is None else "few-shots")
    command = heavy("train", "command")
    command.run(data, output, name, wanted, device, model or "", imbalance, size)


def features(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    model: Annotated[
        str,
        typer.Option("-m", "--model", help="A backbone's name, a run's folder or a .onnx file."),
    ] = "efficientnet_lite0",
    device: Device = "auto",
    cache: Annotated[
        bool, typer.Option(help="Remember embeddings by the content of the image files.")
    ] = True,
) -> None:
    """Write the embeddings of labelled photographs (extra: train)."""
    heavy("train", "features_command").run(data, model, output, device, cache)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, made by edge-fgr train.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The model to write (default: in RUN, by name and target)."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where the run's images are now, if they were moved.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="portable, x86-vnni, arm64, openvino, tensorrt, fp16, fp32 or litert."),
    ] = "portable",
    max_drop: Annotated[
        float, typer.Option(help="Most that top-1 may fall against fp32, in points.")
    ] = 0.3,
    ranges: Annotated[
        str, typer.Option(help="auto (what costs least), mse, percentile, entropy or min-max.")
    ] = "auto",
    range_images: Annotated[
        int, typer.Option(min=1, help="Training images that ranges come from.")
    ] = 256,
    json: Annotated[Path | None, typer.Option(help="Write what each step bought, as JSON.")] = None,
    sibling: Annotated[
        Path | None,
        typer.Option(
            help="A run of the same recipe that left images out: confidence is fitted on these."
        ),
    ] = None,
    sibling_model: Annotated[
        Path | None,
        typer.Option(help="The sibling's exported model (default: in its folder, by name)."),
    ] = None,
) -> None:
    """Export a run as one file for its target, and its fp32 twin, proven equal (extra: export)."""
    command = heavy("export", "command")
    options = command.Options(target, max_drop, ranges, range_images, json, sibling, sibling_model)
    command.run(run, output, data, options)


def verify(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="What is right.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="What is judged.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Files, patterns, folders, a .csv index or NAME:FOLDER."
        ),
    ],
    min_agreement: Annotated[
        float | None, typer.Option(help="Least share of equal labels, in percent, such as 99.5.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Most that top-1 may fall, in points, such as 0.3.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Of labelled data, only this split; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of the candidate: auto, cpu or cuda.")] = "auto",
    reference_device: Annotated[
        str, typer.Option(help="Of the reference: auto, cpu or cuda.")
    ] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page of the flipped images, HTML.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Keep the candidate's logits, .npz, as a reference.")
    ] = None,
    form: Form = "table",
) -> None:
    """Compare two models on image files, as a gate: exit code 1 when a limit is broken.

    A model is a run's folder, a .onnx or .tflite file, an embedded model's name, or golden logits
    (.npz). A folder whose class folders are labels of the model gives accuracies too (extra:
    export).
    """
    heavy("export", "verify_command").run(
        reference,
        candidate,
        images,
        limits=(min_agreement, max_drop),
        devices=(reference_device, device),
        splits=split or (),
        outputs=(json, page, golden),
        form=form,
    )


@_data.command()
def check(
    data: Data,
    form: Form = "table",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Leaks, contradictions and unreadable files are an error."),
    ] = False,
) -> None:
    """Count classes; find unreadable files, contradictions, near-duplicates and leaks."""
    heavy("train", "data_command").run_check(data, form, strict)


@_data.command()
def split(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .csv index to write.")],
    shares: Annotated[
        str, typer.Option(help="Splits and their shares.")
    ] = "train=0.7,val=0.15,test=0.15",
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
) -> None:
    """Write an index with stratified splits that keep near-duplicates together."""
    heavy("train", "data_command").run_split(data, output, shares, seed)


def inspect_graph(model: str | None, form: str) -> None:
    """Show a model's operators: ``edge-fgr inspect --graph``."""
    heavy("export", "graph_card").run(model, form)


_PACKAGES = {"train": "edge_fgr_train", "export": "edge_fgr_export", "bench": "edge_fgr_bench"}


def heavy(extra: str, module: str) -> Any:
    """Import a command of an extra, or say which install brings it."""
    import signal

    gc.enable()
    # A stop in the middle runs the clean-up that an interrupt from the keyboard would.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return import_module(f"{_PACKAGES[extra]}.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edge_fgr"):
            raise
        raise MissingExtraError(
            f"edge-fgr {sys.argv[1]}: the package {error.name} is missing; "
            f"pip install 'edge-fgr[{extra}]'"
        ) from None
