"""`python -m bench [starting] [engines] [isolation] [latency] [recovery] [sockets] [page] [runs]
[crowds]`: all without a name. `--against COMMIT` measures that commit's web process beside ours."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import (
    browser_page,
    crowds,
    engines,
    idle_sockets,
    isolation,
    latency,
    many_runs,
    recovery,
    starting,
)
from bench.crowds import Candidate
from bench.figures import HEAD, Figure, show
from tests.deployment import BASE_DIR, Deployment, Shape

SHAPES: tuple[Shape, ...] = ("embedded", "production")
ALONE = {
    "starting": starting.measure,
    "engines": engines.measure,
    "isolation": isolation.measure,
    "sockets": idle_sockets.measure,
    "page": browser_page.measure,
}
IN_A_HOUSE = {"latency": latency.measure, "recovery": recovery.measure}
SHAPED = {"runs": many_runs.measure}
COMPARED = {"crowds": crowds.measure}
NAMES = [*ALONE, *IN_A_HOUSE, *SHAPED, *COMPARED]


def figures(options: argparse.Namespace, candidates: list[Candidate]) -> Iterator[Figure]:
    for name in options.names or NAMES:
        if name in ALONE:
            yield from ALONE[name]()
        elif name in SHAPED:
            yield from SHAPED[name](tuple(options.shapes))
        elif name in COMPARED:
            yield from COMPARED[name](candidates, options.sockets, tuple(options.shapes))
        else:
            for shape in options.shapes:
                with Deployment.running(shape) as house:
                    yield from IN_A_HOUSE[name](house)


@contextmanager
def candidates_of(commit: str | None) -> Iterator[list[Candidate]]:
    """Ours, and a work tree of the commit."""
    if commit is None:
        yield [Candidate("")]
        return
    with tempfile.TemporaryDirectory(prefix="cmbagent-bench-") as folder:
        tree = Path(folder, commit)
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield [Candidate(""), Candidate(commit, tree)]
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=BASE_DIR, check=True)


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    return options


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then, too
    options = options_of(arguments)
    sys.stdout.write(HEAD + "\n")
    broken = []
    with candidates_of(options.against) as candidates:
        for figure in figures(options, candidates):
            show(figure)
            broken += [] if figure.holds else [figure.name]
    if broken:
        sys.stdout.write(f"Worse than promised: {', '.join(broken)}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
