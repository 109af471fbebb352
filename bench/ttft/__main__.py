# SPDX-License-Identifier: Apache-2.0
"""Time to the first token over emulated links: see docs/results/transport.md."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from spectrumkv._abi import library
from spectrumkv.demo.peer import Child, PeerError
from spectrumkv.engine import Engine
from spectrumkv.eval.machine import machine
from spectrumkv.eval.results import write
from spectrumkv.eval.steps import Steps
from spectrumkv.plan import Plan
from spectrumkv.transport import Endpoint
from ttft import ways
from ttft.capture import Capture
from ttft.link import DECODE, PREFILL, Link, LinkError, facts

Row = dict[str, Any]
Way = Callable[[], Row]


def percentiles(values: list[float]) -> Row:
    """Median and tails."""
    ordered = sorted(values)
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
    }


def summary(samples: list[Row], base: list[Row]) -> Row:
    """A cell: percentiles of every figure, and of the ratio to the bare socket in the same round."""
    row: Row = {"requests": len(samples)}
    for name in samples[0]:
        values = [sample[name] for sample in samples if sample[name] is not None]
        if name.endswith("is_faster"):
            row[name] = None if not values else round(sum(values) / len(values), 3)
        elif name == "bytes":
            row[name] = values[0]
        else:
            row[name] = percentiles(values)
    row["of_bare"] = percentiles([own["ms"] / other["ms"] for own, other in zip(samples, base)])
    row["of_bare"]["p95_by_p95"] = round(row["ms"]["p95"] / percentiles([other["ms"] for other in base])["p95"], 4)
    return row


class Peers:
    """Mooncake's and NIXL's two ends, where the other Python has them."""

    FILL = 7

    def __init__(self, python: str | None, wanted: list[str], link: Link, size: int) -> None:
        self.pairs: dict[str, tuple[Child, Child]] = {}
        self.skipped: dict[str, str] = {}
        for peer in wanted:
            if python is None:
                self.skipped[peer] = "no Python that has it: --peers"
                continue
            ends: list[Child] = []
            try:
                for prefix, address, fill in (
                    (link.prefill_prefix, PREFILL, self.FILL),
                    (link.decode_prefix, DECODE, 0),
                ):
                    ends.append(Child("ttft.peer_end", prefix=prefix, python=python))
                    ends[-1].send(kind="start", peer=peer, address=address, bytes=size, fill=fill)
                cards = [end.answer("ready", 60)["card"] for end in ends]
                ends[0].send(kind="meet", card=cards[1])
                ends[0].answer("met", 60)
                self.pairs[peer] = (ends[0], ends[1])
                self.move(peer)
                ends[1].send(kind="check", fill=self.FILL)
                if not ends[1].answer("result", 60)["good"]:
                    raise PeerError("other bytes arrived")
            except PeerError as error:
                self.pairs.pop(peer, None)
                self.skipped[peer] = str(error)
                for end in ends:
                    end.close()

    def move(self, peer: str) -> Row:
        """The raw bytes once."""
        self.pairs[peer][0].send(kind="move")
        return {"ms": self.pairs[peer][0].answer("result", ways.TIMEOUT)["ms"]}

    def close(self) -> None:
        """Ends them."""
        for pair in self.pairs.values():
            for end in pair:
                end.send(kind="stop")
                end.close()


class Run:
    """The capture, both processes and the plans."""

    def __init__(self, options: argparse.Namespace, link: Link, stack: ExitStack, steps: Steps) -> None:
        self.options, self.link, self.steps = options, link, steps
        with steps.step(f"prefill of {options.tokens} tokens"):
            self.capture = Capture(options.tokens, options.weights, options.threads, steps)
        self.state = self.capture.prompt.state.data.cast("B")
        self.engine = stack.enter_context(Engine(threads=options.threads))
        self.cache = self.capture.cache(self.capture.prompt)
        endpoint = stack.enter_context(
            Endpoint(model=self.capture.context.fingerprint, heartbeat=3.0, allow_open_tcp=True)
        )
        bare = stack.enter_context(socket.create_server((PREFILL, 0)))
        child = stack.enter_context(Child("ttft.decode_end", prefix=link.decode_prefix))
        child.send(
            kind="start", model=str(self.capture.model), tokens=options.tokens, threads=options.threads,
            uri=endpoint.listen(f"tcp://{PREFILL}:0"), bare=bare.getsockname(), state_bytes=len(self.state),
        )  # fmt: skip
        conn = endpoint.accept(60)
        peer, _ = bare.accept()
        child.answer("ready", 120)
        self.ends = ways.Ends(child, conn, stack.enter_context(peer), self.engine)
        with self.capture.scores(self.engine, self.cache, self.capture.prompt) as scores:
            self.plans = {b: Plan(self.engine, budget=b).solve(self.cache, scores) for b in options.budgets}
        self.raw = Plan(self.engine, strategy="raw").solve(self.cache)
        ways.frame(self.ends, self.cache, self.raw)
        self.layers = len(self.capture.prompt.kv_heads)
        self.peers = Peers(options.peers, [w for w in options.ways if w in ("mooncake", "nixl")], link, len(self.state))
        stack.callback(self.peers.close)
        for name, why in self.peers.skipped.items():
            steps.say(f"SKIPPED {name}: {why}")

    def way(self, name: str) -> Way:
        """What moves the cache once."""
        kind, _, budget = name.partition(":")
        if kind == ways.BARE:
            return lambda: ways.bare(self.ends, self.state)
        if kind in ("mooncake", "nixl"):
            return lambda: self.peers.move(kind)
        plan = self.raw if budget == "raw" else self.plans[float(budget)]
        if kind == "whole":
            return lambda: ways.whole(self.ends, self.cache, plan)
        return lambda: ways.layers(self.ends, self.cache, plan, self.layers)

    def transfers(self, gbps: float, requests: int, names: list[str]) -> dict[str, Row]:
        """So many rounds of every way over one link."""
        self.link.set_rate(gbps)
        todo = [(name, self.way(name)) for name in names if name not in self.peers.skipped]
        samples: dict[str, list[Row]] = {name: [] for name, _ in todo}
        with self.steps.step(f"{gbps:g} Gb/s: {requests} requests each of {', '.join(samples)}") as update:
            for number in range(-1, requests):  # the first warms up
                for i in range(len(todo)):
                    name, move = todo[(i + number + 1) % len(todo)]
                    row = move()
                    if number >= 0:
                        samples[name].append(row)
                update(number + 1, requests)
        return {name: summary(rows, samples[ways.BARE]) for name, rows in samples.items()}

    def first_tokens(self, gbps: float, requests: int) -> dict[str, Row]:
        """Prefill, what the way needs, the transfer, one token from the decode end's own model."""
        self.link.set_rate(gbps)
        names = [ways.BARE, *(f"layers:{budget:g}" for budget in self.options.budgets)]
        samples: dict[str, list[Row]] = {name: [] for name in names}
        with self.steps.step(f"{gbps:g} Gb/s: first tokens, {requests} requests each of {', '.join(names)}") as update:
            for number in range(requests):
                for i in range(len(names)):
                    name = names[(i + number) % len(names)]
                    samples[name].append(self._first_token(name))
                update(number + 1, requests)
        return {name: summary(rows, samples[ways.BARE]) for name, rows in samples.items()}

    def _first_token(self, name: str) -> Row:
        start = time.monotonic_ns()
        prompt = self.capture.evaluate(queries=name != ways.BARE)
        filled = time.monotonic_ns()
        if name == ways.BARE:
            ways.bare(self.ends, prompt.state.data.cast("B"))
        else:
            cache = self.capture.cache(prompt)
            with (
                self.capture.scores(self.engine, cache, prompt) as scores,
                Plan(self.engine, budget=float(name.partition(":")[2])) as plan,
            ):
                ways.layers(self.ends, cache, plan.solve(cache, scores), self.layers)
            cache.close()
        token = int(prompt.logits.argmax())
        self.ends.child.send(kind="token", token=token, position=len(prompt.tokens), state_bytes=len(prompt.state))
        result = self.ends.child.answer("result", ways.TIMEOUT)
        return {
            "ms": (result["done"] - start) / 1e6,
            "after_prefill_ms": (result["done"] - filled) / 1e6,
            "prefill_ms": (filled - start) / 1e6,
        }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/ttft.sh", description=__doc__)
    floats = lambda text: [float(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--json", type=Path, required=True, help="results; cells that are there are not run again")
    parser.add_argument("--tokens", type=int, default=1792)
    parser.add_argument("--rates", type=floats, default=[0.1, 1.0, 10.0, 25.0], help="Gb/s, between commas")
    parser.add_argument("--requests", type=int, default=200, help="a cell of transfers")
    parser.add_argument("--first-tokens", type=int, default=0, help="requests a cell with prefill and first token")
    parser.add_argument("--budgets", type=floats, default=[0.5, 0.28, 0.24])
    parser.add_argument("--ways", type=lambda text: text.split(","), default=None, help="bare first; default: all")
    parser.add_argument("--peers", default=None, help="a Python that has Mooncake's and NIXL's packages")
    parser.add_argument("--threads", type=int, default=min(8, len(os.sched_getaffinity(0))))
    parser.add_argument("--weights", default="as-is", choices=("as-is", "f32"))
    options = parser.parse_args()
    if options.ways is None:
        layers = [f"layers:{budget:g}" for budget in options.budgets]
        options.ways = [ways.BARE, *layers, "whole:0.28", "whole:raw", "mooncake", "nixl"]
    return options


def main() -> int:
    """Entry point."""
    options = parse()
    steps = Steps(Console())
    settings = {
        "model": "smollm2", "tokens": options.tokens, "weights": options.weights, "threads": options.threads,
        "budgets": options.budgets, "library": library().version(),
    }  # fmt: skip
    content: Row = {"kind": "ttft", "settings": settings, "machine": machine(), "cells": []}
    if options.json.exists():
        found = json.loads(options.json.read_text(encoding="utf-8"))
        if found["settings"] != settings:
            print(f"{options.json}: made with {found['settings']}, wanted {settings}", file=sys.stderr)
            return 1
        content = found
    try:
        with ExitStack() as stack:
            link = stack.enter_context(Link())
            link.enter()
            content["link"] = facts(link)
            if content["link"]["delay_and_loss"] != "none set":
                steps.say(f"SKIPPED delay and loss: {content['link']['delay_and_loss']}")
            run = Run(options, link, stack, steps)
            content.setdefault("skipped", {}).update(run.peers.skipped)
            content["raw_bytes"] = len(run.state)
            for gbps in options.rates:
                for what, count in (("transfer", options.requests), ("first-token", options.first_tokens)):
                    if count == 0:
                        continue
                    cells = (
                        run.transfers(gbps, count, options.ways)
                        if what == "transfer"
                        else run.first_tokens(gbps, count)
                    )
                    for way, row in cells.items():
                        content["cells"] = [
                            c for c in content["cells"] if (c["what"], c["gbps"], c["way"]) != (what, gbps, way)
                        ]
                        content["cells"].append({"what": what, "gbps": gbps, "way": way, **row})
                        of = row["of_bare"]
                        steps.say(
                            f"  {what} {gbps:g} Gb/s {way}: p50 {row['ms']['p50']:.1f} p95 {row['ms']['p95']:.1f} ms,"
                            f" of bare {of['p50']:.3f} ({of['p95_by_p95']:.3f} at p95)"
                        )
                    write(options.json, content)
    except (LinkError, PeerError) as error:
        print(f"ttft: {error}", file=sys.stderr)
        return 77 if isinstance(error, LinkError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
