"""edge-fgr, as its Python page shows it. Its cold start is measured by its own command line."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Spec, run

from edge_fgr import Classifier

__all__: list[str] = []


class _EdgeFgr:
    threads = "1"

    def __init__(self, spec: Spec) -> None:
        self._classifier = Classifier.load(spec.model, threads=1)
        self._places = {label: i for i, label in enumerate(self._classifier.contract.labels)}
        self._cores = spec.cores

    def classify(self, path: str) -> int | None:
        return self._places[self._classifier(path).label]

    def folder(self, paths: Sequence[str]) -> list[int | None]:
        answers = self._classifier.classify_many(paths, workers=self._cores)
        return [self._places[answer.label] for answer in answers]


if __name__ == "__main__":
    run(_EdgeFgr)
