"""`python -m bench [latency] [recovery] [sockets] [starting]`: all without a name."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench import idle_sockets, latency, recovery, starting
from bench.figures import HEAD, Figure, show
from tests.deployment import Deployment, Shape

SHAPES: tuple[Shape, ...] = ("embedded", "production")
IN_A_HOUSE = {"latency": latency.measure, "recovery": recovery.measure}


def figures(names: list[str]) -> Iterator[Figure]:
    for name in names:
        if name == "starting":
            yield from starting.measure()
        elif name == "sockets":
            yield from idle_sockets.measure()
        else:
            for shape in SHAPES:
                with Deployment.running(shape) as house:
                    yield from IN_A_HOUSE[name](house)


def main(names: list[str]) -> int:
    sys.stdout.write(HEAD + "\n")
    broken = []
    for figure in figures(names or ["starting", "latency", "recovery", "sockets"]):
        show(figure)
        broken += [] if figure.holds else [figure.name]
    if broken:
        sys.stdout.write(f"Worse than promised: {', '.join(broken)}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
