"""The images of a run: those that INT8 is judged on, and those that its ranges come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_fgr.contract import Contract, Label
from edge_fgr.errors import InputMissingError
from edge_fgr_train.checkpoint import Run
from edge_fgr_train.dataset import Sample, targets_of
from edge_fgr_train.parts import split_again

__all__ = ["RANGE_IMAGES", "Images", "familiar_images", "images_of"]

RANGE_IMAGES = 256
"""How many training images the activation ranges come from, spread evenly over the classes."""

_CHOSEN_IMAGES = 64
"""Other training images, that ranges and steps are chosen on."""

_FAMILIAR_IMAGES = 4096
"""Most training images that the means of classes are taken over."""

_FITTED_IMAGES = 512
"""How many images of the fit split models are compared on, where no others are there."""


@dataclass(frozen=True, slots=True)
class Images:
    """Which images serve for what.

    Attributes:
        judged: models are compared on these.
        judged_by: what they were to the run: ``calibration``, its evaluation split, or ``fit``.
        held: whether they were kept out of training.
        ranges: images of the fit split, for ranges and covariances.
        chosen: other images of it, that ranges and steps are chosen on.
        fit: all of it where there are not too many, for the means of classes.
    """

    judged: Sequence[Sample]
    judged_by: str
    held: bool
    ranges: Sequence[Sample]
    chosen: Sequence[Sample]
    fit: Sequence[Sample]

    @property
    def paths(self) -> list[Path]:
        """Files of the judged ones."""
        return [sample.path for sample in self.judged]

    @property
    def range_paths(self) -> list[Path]:
        """Files that ranges come from."""
        return [sample.path for sample in self.ranges]

    @property
    def chosen_paths(self) -> list[Path]:
        """Files that ranges and steps are chosen on."""
        return [sample.path for sample in self.chosen]

    def targets(self, contract: Contract) -> list[int]:
        """Return the classes of the judged ones as numbers of ``contract``."""
        return targets_of(self.judged, contract.labels)


def images_of(made: Run, data: str | None, range_images: int = RANGE_IMAGES) -> Images:
    """Find the images of a run.

    Args:
        made: the run.
        data: where its data set is now; None: where it was.
        range_images: how many images of the fit split ranges come from, where it has so many.

    Raises:
        InputMissingError: the data set or an image of it is gone, or there are too few.
    """
    split = split_again(made, data, "say with --data where the images are")
    fit = split.fit
    if len(fit) < 2:
        raise InputMissingError(f"{split.origin}: the run has fewer than two images to fit")
    # Every so many are left to choose on, so that both see all classes where there are enough.
    some = _spread(fit, range_images + min(_CHOSEN_IMAGES, max(1, len(fit) // 5)))
    step = max(2, len(some) // min(_CHOSEN_IMAGES, max(1, len(some) // 5)))
    chosen = some[step // 2 :: step][:_CHOSEN_IMAGES]
    apart = set(chosen)
    ranges = [sample for sample in some if sample not in apart]
    rest = {"ranges": ranges, "chosen": chosen, "fit": familiar_images(fit)}
    if judged := split.calibration or split.evaluate:
        judged_by = "calibration" if split.calibration else split.folders[-1]
        return Images(judged, judged_by, held=True, **rest)
    return Images(_spread(fit, _FITTED_IMAGES), "fit", held=False, **rest)


def familiar_images(fit: Sequence[Sample]) -> list[Sample]:
    """Return the training images that the means of classes are taken over."""
    return _spread(fit, _FAMILIAR_IMAGES)


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Take one image of each class in turn until there are ``count``."""
    classes: dict[Label, list[Sample]] = defaultdict(list)
    for sample in sorted(samples):
        classes[sample.label].append(sample)
    turns = sorted(
        (place, label, sample)
        for label, members in classes.items()
        for place, sample in enumerate(members)
    )
    return sorted(sample for _, _, sample in turns[:count])
