"""The section of a recipe for classes of unequal size: what makes up for rare ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_fgr_train.settings import Model, check_rules

__all__ = ["Balance", "check_balance"]


@dataclass(frozen=True, slots=True)
class Balance:
    """How classes of unequal size are learnt. The defaults do nothing about it.

    Attributes:
        sampler: how images are drawn. ``natural``: each once an epoch; ``balanced``: every class
            equally often; ``sqrt``: classes by the square root of their number of images. The last
            two draw images of rare classes several times an epoch, each time changed anew, and
            some of frequent ones not at all.
        loss: ``cross-entropy``; ``class-balanced`` weighs classes by their effective number of
            images, (1 - beta) / (1 - beta^n) (Cui et al. 2019, section 4); ``focal`` weighs
            what is uncertain, (1 - p)^gamma (Lin et al. 2017, section 3).
        beta: of ``class-balanced``; 0 is no weight, near 1 is one over the number of images.
        gamma: of ``focal``; 0 is cross-entropy.
        adjust: logit adjustment by ``tau`` times the log of a class's share of the drawn images
            (Menon et al. 2021): ``loss`` adds it to the logits in training alone (section 4.2);
            ``bias`` takes it off the finished head's bias (section 4.1).
        tau: strength of the adjustment; 1 is right for equally frequent classes.
        classifier: ``joint`` keeps the head that was trained; ``crt`` trains a new one when all
            epochs are over, on the network's embeddings, every class drawn equally often (Kang et
            al. 2020, section 4.1); ``tau-norm`` divides each class's weights by the power
            ``norm_tau`` of their length (section 4.2).
        norm_tau: 0 changes nothing, 1 makes all weights equally long.
        crt_epochs: of ``crt``.
    """

    sampler: Literal["natural", "sqrt", "balanced"] = "natural"
    loss: Literal["cross-entropy", "class-balanced", "focal"] = "cross-entropy"
    beta: float = 0.99
    gamma: float = 2.0
    adjust: Literal["none", "loss", "bias"] = "none"
    tau: float = 1.0
    classifier: Literal["joint", "crt", "tau-norm"] = "joint"
    norm_tau: float = 0.7
    crt_epochs: int = 20

    def __post_init__(self) -> None:
        weighted = self.loss == "class-balanced"
        check_rules(
            "balance",
            {
                "beta must be at least 0 and below 1": 0 <= self.beta < 1,
                "gamma must be in 0 to 10": 0 <= self.gamma <= 10,
                "tau must be above 0, at most 4": 0 < self.tau <= 4,
                "norm_tau must be in 0 to 1": 0 <= self.norm_tau <= 1,
                "crt_epochs must be at least 1": self.crt_epochs >= 1,
                "sampler and loss class-balanced make up for the same; choose one of them":
                    not weighted or self.sampler == "natural",
                "adjust and loss class-balanced make up for the same; choose one of them":
                    not weighted or self.adjust == "none",
                "adjust has nothing to do where sampler is balanced; choose one of them":
                    self.adjust == "none" or self.sampler != "balanced",
                "adjust bias would shift a head that crt has balanced; choose one of them":
                    self.adjust != "bias" or self.classifier != "crt",
                "classifier tau-norm is for a head that nothing else has balanced; leave sampler, "
                "adjust and class-balanced out": self.classifier != "tau-norm"
                or (self.sampler == "natural" and self.adjust == "none" and not weighted),
            },
        )  # fmt: skip


def check_balance(balance: Balance, model: Model, *, chain: bool) -> None:
    """Refuse what contradicts the rest of a recipe.

    Args:
        balance: the section.
        model: what is trained.
        chain: whether the recipe is of a chain, whose classifier weighs classes by itself.

    Raises:
        ContractError: in one line.
    """
    computed = model.refit != "none"
    check_rules(
        "balance",
        {
            "has no meaning for a chain; chain.balanced weighs its classes": not chain
            or balance == Balance(),
            "classifier needs model.refit none: a computed head takes the place of any other":
                balance.classifier == "joint" or not computed,
            "adjust bias needs model.refit none: a computed head treats all classes alike":
                balance.adjust != "bias" or not computed,
            "classifier tau-norm needs model.head linear: others have weights of one length":
                balance.classifier != "tau-norm" or model.head == "linear",
        },
    )  # fmt: skip
