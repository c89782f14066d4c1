"""Many processes, one model in each: for a server that must survive a worker's crash.

    python examples/worker_pool.py PHOTO...

In one process, threads do the same with less memory: see batch.py.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from edge_fgr import Classifier, EdgeFgrError, Prediction

clf: Classifier


def start() -> None:
    """Open the model, once a worker. An open model does not travel between processes."""
    global clf  # noqa: PLW0603
    clf = Classifier.load()


def classify(path: str) -> Prediction | str:
    """Classify one file; predictions and texts travel between processes."""
    try:
        return clf(path)
    except EdgeFgrError as error:
        return str(error)


def main() -> None:
    """Classify the files of the command line, in their order."""
    # spawn, not fork: a fork would copy the threads' locks of onnxruntime in any state.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=start) as pool:
        for path, found in zip(sys.argv[1:], pool.map(classify, sys.argv[1:]), strict=True):
            if isinstance(found, str):
                print(found, file=sys.stderr)
            else:
                print(f"{path}: {'/'.join(found.label)} {found.probability:.3f}")


if __name__ == "__main__":
    main()
