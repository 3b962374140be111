"""The endpoint as a program of its own: `python -m tests.endpoint PORT [--delay-ms 10] …`.

Prints one line of JSON once it answers: {"OPENAI_BASE_URL", "OPENAI_API_KEY", "CMBAGENT_MODEL"}. On SIGTERM
or SIGINT it prints how many requests it saw and how many it refused, and exits 1 if any.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from tests.endpoint import PERSONALITIES, Endpoint


def main() -> int:
    options = _options()
    endpoint = Endpoint(
        PERSONALITIES[options.personality],
        port=options.port,
        key=options.key,
        delay_ms=options.delay_ms,
    )
    for kind in options.fault:
        endpoint.misbehave(kind)
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # before its threads: they inherit it
    endpoint.start()
    print(json.dumps(endpoint.environment), flush=True)
    signal.sigwait(endings)
    endpoint.stop()
    refusals = [request.refusal for request in endpoint.requests if request.refusal]
    print(json.dumps({"requests": len(endpoint.requests), "refusals": refusals}), flush=True)
    return 1 if refusals else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.endpoint")
    parser.add_argument("port", type=int, nargs="?", default=0, help="0: any free one")
    parser.add_argument("--personality", choices=PERSONALITIES, default="plain")
    parser.add_argument("--key", default="")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--fault", action="append", default=[], help="a misbehaviour, always")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
