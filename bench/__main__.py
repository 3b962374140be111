"""`python -m bench [starting] [engines] [isolation] [latency] [recovery] [sockets]`: all without a
name."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench import engines, idle_sockets, isolation, latency, recovery, starting
from bench.figures import HEAD, Figure, show
from tests.deployment import Deployment, Shape

SHAPES: tuple[Shape, ...] = ("embedded", "production")
ALONE = {
    "starting": starting.measure,
    "engines": engines.measure,
    "isolation": isolation.measure,
    "sockets": idle_sockets.measure,
}
IN_A_HOUSE = {"latency": latency.measure, "recovery": recovery.measure}


def figures(names: list[str]) -> Iterator[Figure]:
    for name in names:
        if name in ALONE:
            yield from ALONE[name]()
        else:
            for shape in SHAPES:
                with Deployment.running(shape) as house:
                    yield from IN_A_HOUSE[name](house)


def main(names: list[str]) -> int:
    sys.stdout.write(HEAD + "\n")
    broken = []
    for figure in figures(
        names or ["starting", "engines", "isolation", "latency", "recovery", "sockets"]
    ):
        show(figure)
        broken += [] if figure.holds else [figure.name]
    if broken:
        sys.stdout.write(f"Worse than promised: {', '.join(broken)}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
