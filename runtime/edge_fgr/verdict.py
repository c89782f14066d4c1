"""Logits of one image to a verdict with its reason.

What is the same for every image of a model is looked up once, when the model is opened: a verdict
costs about as much as a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_fgr import decision
from edge_fgr.errors import UsageError
from edge_fgr.prediction import Gate, LabelSet, Ranked, UnknownScore, Verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_fgr.confidence import Confidence, Unknown
    from edge_fgr.contract import Contract, Label
    from edge_fgr.familiar import Familiar

    Floats = npt.NDArray[np.floating]

__all__ = ["Answer", "Decider", "quantile_of"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``Decider`` makes of one image: the parts of a ``Prediction`` that logits give."""

    top_k: tuple[Ranked, ...]
    verdict: Verdict
    unknown: UnknownScore | None
    labels: LabelSet | None
    gate: Gate | None = None


class Decider:
    """Applies a contract's confidence. Holds no mutable state: share it between threads.

    Args:
        contract: of the model.
        familiar: how familiar an embedding is; needed where the contract's score asks for it.
        enrolled: labels of classes that follow those of the contract in the logits.
        scale: with enrolled classes, from a cosine to a logit (``edge_fgr.gallery``).
        coverage: of the set of labels; None: no set.

    Raises:
        UsageError: the model has no sets for this coverage.
    """

    def __init__(
        self,
        contract: Contract,
        familiar: Familiar | None = None,
        *,
        enrolled: Sequence[Label] = (),
        scale: float = 1.0,
        coverage: float | None = None,
    ) -> None:
        fitted = contract.confidence
        self._temperature = contract.temperature
        self._known = len(contract.labels)
        self._labels = (*contract.labels, *enrolled)
        self._whole = frozenset(self._labels)
        self._unknown: Unknown | None = fitted.unknown if fitted else None
        self._familiar, self._scale = familiar, scale
        self._back_off = fitted.back_off if fitted else None
        thresholds = self._back_off.thresholds if self._back_off else (None,)
        self._levels = decision.levels(self._labels, thresholds)
        self._why_not = "no back-off was fitted" if fitted else "no confidence was fitted"
        self._coverage = coverage
        self._quantile = 0.0 if coverage is None else quantile_of(contract, coverage)
        self._operating = contract.operating
        accepted = contract.operating.label if contract.operating else None
        self._others = [i for i, label in enumerate(self._labels) if label != accepted]
        self._place = self._labels.index(accepted) if accepted else -1
        self._fitted_on = f"{fitted.images} images, {fitted.fitted_on}" if fitted else ""

    def __call__(self, logits: Floats, embedding: Floats | None, top_k: int) -> Answer:
        """Return the answer for one image.

        Args:
            logits: ``(C,)``, or ``(C + K,)`` with enrolled classes.
            embedding: ``(D,)``; only looked at where ``familiar`` is there.
            top_k: how many classes to rank.
        """
        values = decision.probabilities(logits, self._temperature)
        order = decision.best(values, top_k)
        ranked = tuple(Ranked(self._labels[i], float(values[i])) for i in order)
        unknown = self._score(logits, embedding, order[0])
        strange = unknown is not None and unknown.score < unknown.threshold
        gate = self._gate(values, strange=strange)
        if unknown is not None and strange:
            verdict = self._stranger(unknown, ranked[0])
        elif gate is not None:
            verdict = self._gated(values, gate)
        else:
            verdict = self._name(values, ranked[0])
        return Answer(ranked, verdict, unknown, self._set(values), gate)

    def _score(self, logits: Floats, embedding: Floats | None, best: int) -> UnknownScore | None:
        unknown = self._unknown
        if unknown is None:
            return None
        if self._familiar is None or embedding is None:
            score = float(decision.unknown_score(logits, self._known))
        elif best >= self._known:  # its cosine is in the logit; no trained class is as near
            score = round(float(logits[best]) / self._scale, 9)
        else:
            score = self._familiar.score(embedding)
        return UnknownScore(score, unknown.threshold, unknown.score)

    def _stranger(self, found: UnknownScore, nearest: Ranked) -> Verdict:
        assert self._unknown is not None  # noqa: S101  typing only
        reason = (
            f"the image belongs to no class: its score of {found.score:.6g} is below "
            f"{found.threshold:.6g}, as for at most {100 * self._unknown.share:g} % of images of "
            f"known classes ({self._fitted_on})"
        )
        return Verdict("unknown", (), nearest.probability, reason)

    def _gate(self, values: Floats, *, strange: bool) -> Gate | None:
        point = self._operating
        if point is None:
            return None
        share = float(values[self._place])
        return Gate(point.label, share >= point.threshold and not strange, share, point.threshold)

    def _gated(self, values: Floats, gate: Gate) -> Verdict:
        """Return the accepted class, or the best of the others: here certainty is not asked."""
        name, share, least = gate.label[-1], gate.probability, gate.threshold
        if gate.accepted:
            reason = f"{name} has {share:.6g} and needs {least:.6g} to be accepted"
            return Verdict("class", gate.label, share, reason)
        said = f"{name} has only {share:.6g} of {least:.6g} needed to be accepted"
        if not self._others:
            return Verdict("rejected", (), share, said)
        best = max(self._others, key=lambda i: float(values[i]))
        label, next_best = self._labels[best], float(values[best])
        reason = f"{said}; of the others {label[-1]} is the best with {next_best:.6g}"
        return Verdict("rejected", label, next_best, reason)

    def _name(self, values: Floats, best: Ranked) -> Verdict:
        """Return the deepest name that is certain enough."""
        if self._back_off is None:
            return Verdict("class", best.label, best.probability, self._why_not)
        doubts = ""
        for level in self._levels:
            label, share = level.best(values)
            if share >= level.least:
                kind = "class" if label in self._whole else "coarse"
                reason = (
                    f"{doubts}{label[-1]} has {_percent(share)} and needs {_percent(level.least)} "
                    f"for {_percent(self._back_off.precision)} right answers"
                )
                return Verdict(kind, label, share, reason)  # type: ignore[arg-type]
            doubts += f"{label[-1]} has only {_percent(share)} of {_percent(level.least)} needed; "
        return Verdict("uncertain", (), best.probability, doubts + "no coarser name is left")

    def _set(self, values: Floats) -> LabelSet | None:
        if self._coverage is None:
            return None
        held = decision.conformal_set(values, self._quantile)
        count = "1 label has" if len(held) == 1 else f"{len(held)} labels have"
        least = 1 - self._quantile
        reason = (
            f"{count} the {_percent(least)} needed for coverage {self._coverage:g} "
            f"({self._fitted_on})"
            if values[held[-1]] >= least
            else f"no label has the {_percent(least)} needed for coverage {self._coverage:g} "
            f"({self._fitted_on}); the best one is always in the set"
        )
        return LabelSet(self._coverage, tuple(self._labels[i] for i in held), reason)


def quantile_of(contract: Contract, coverage: float) -> float:
    """Return the quantile of 1 - p that was fitted for ``coverage``.

    Raises:
        UsageError: none was; between two coverages nothing is promised, so none is invented.
    """
    fitted: Confidence | None = contract.confidence
    if fitted is None or fitted.conformal is None:
        raise UsageError(
            f"coverage {coverage:g}: {contract.name} has no sets fitted; export it again with "
            "images that training did not see"
        )
    quantiles = fitted.conformal.quantiles
    for known, quantile in quantiles:
        if math.isclose(known, coverage, abs_tol=1e-9):
            return quantile
    listed = ", ".join(f"{known:g}" for known, _ in quantiles)
    above = [known for known, _ in quantiles if known > coverage]
    advice = f"the next safer one is {above[0]:g}" if above else "none of them is as safe"
    raise UsageError(f"coverage {coverage:g}: {contract.name} was fitted for {listed}; {advice}")


def _percent(share: float) -> str:
    """Never rounded up: 49.96 % of 50 % needed must not read as 50 %."""
    return f"{math.floor(round(share * 1000, 6)) / 10:g} %"
