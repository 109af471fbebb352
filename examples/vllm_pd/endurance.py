# SPDX-License-Identifier: Apache-2.0
"""The two long parts of demo.py: minutes of mixed load, and many faults at random. What is held is read from outside."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from client import TEXT, Reply
from relay import Relay

if TYPE_CHECKING:
    from demo import Pair

# In the second half. Payloads that leaked would be ten times that.
GROWTH_MIB = 64
SPARE = 4  # descriptors and threads that come and go


def pieces(rng: random.Random, count: int, least: int, most: int) -> list[str]:
    """Parts of the text, of random lengths in characters."""
    text = TEXT.read_text()
    lengths = [rng.randint(least, most) for _ in range(count)]
    return [text[(at := rng.randrange(len(text) - length)) : at + length] for length in lengths]


async def soak(pair: Pair, session: aiohttp.ClientSession, seconds: float, check: Callable[[bool, str], bool]) -> bool:
    """8 requests at a time, 32 to 1,024 tokens long, through both instances."""
    rng = random.Random(1)
    done = failed = 0
    texts: list[str] = []

    async def client(end: float) -> None:
        nonlocal done, failed
        while time.monotonic() < end:
            reply = await pair.moved(
                session, pieces(rng, 1, 140, 4400)[0], rng.choice([0.3, 0.4, "int8", "raw"]), tokens=4
            )
            done += 1
            if reply.error:
                failed += 1
                texts.append(reply.error)

    async def load(length: float) -> None:
        await asyncio.gather(*(client(time.monotonic() + length) for _ in range(8)))

    began = time.monotonic()
    points: dict[str, list[tuple[float, int, int]]] = {"prefill": [], "decode": []}
    for quarter in range(1, 5):
        await load(seconds * quarter / 4 - (time.monotonic() - began))
        points["prefill"].append(pair.prefill.holdings())
        points["decode"].append(pair.decode.holdings())
    print(f"  {done} requests in {time.monotonic() - began:.0f} s, 8 at a time", flush=True)
    good = check(failed == 0, f"{done - failed} of {done} completed {texts[:1] or ''}")
    for process, seen in ((pair.prefill, points["prefill"]), (pair.decode, points["decode"])):
        end = time.monotonic() + 30
        while process.metric("vllm:kv_cache_usage_perc") and time.monotonic() < end:
            await asyncio.sleep(0.5)
        used = process.metric("vllm:kv_cache_usage_perc")
        good &= check(used == 0, f"{process.name}: KV cache use is {used:.4f} when all is done")
        seen.append(process.holdings())
        # In the first half blocks of the KV cache are still touched for the first time.
        grown = [after - before for before, after in zip(seen[1], seen[-1])]
        memory, files, threads = (" ".join(f"{value:.0f}" for value in series) for series in zip(*seen))
        good &= check(
            grown[0] < GROWTH_MIB and grown[1] <= SPARE and grown[2] <= SPARE,
            f"{process.name}: MiB {memory}, descriptors {files}, threads {threads} (after each quarter, and at rest)",
        )
    return good


KINDS = {
    "changed byte": 40,
    "silence": 8,
    "cut": 30,
    "other prompt": 6,
    "abort": 8,
    "decode killed": 4,
    "prefill killed": 4,
}


async def storm(
    pair: Pair, session: aiohttp.ClientSession, runs: int, limit: float, check: Callable[[bool, str], bool]
) -> bool:
    """Faults at random: kind, place and budget. Every request completes with the right answer, or ends with an error in time."""
    rng = random.Random(2)
    texts = pieces(rng, 6, 700, 1500)
    # A request that no fault reached has the answer of its transfer, one that was recomputed that of the model itself.
    right: dict[tuple[str, str], list[list[str]]] = {}
    for text in texts:
        alone = (await pair.alone(session, text)).tokens
        for budget in ("raw", "int8"):
            right[text, budget] = [alone, (await pair.moved(session, text, budget)).tokens]
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    kinds = rng.choices(list(KINDS), list(KINDS.values()), k=runs)
    for index, kind in enumerate(kinds):
        text, budget = rng.choice(texts), rng.choice(["raw", "int8"])
        reply = await asyncio.wait_for(_one(pair, session, rng, kind, text, budget), 600)
        slowest = max(slowest, reply.seconds)
        answered = not reply.error and reply.tokens in right[text, budget]
        if kind == "abort":
            ends["aborted"] += 1
        elif answered:
            ends["right answer"] += 1
        elif reply.error:
            ends["error"] += 1
        if (not answered and not reply.error) or reply.seconds > limit or (reply.error and kind != "decode killed"):
            wrong.append(f"{kind}: {reply.error or 'ANOTHER ANSWER'} after {reply.seconds:.1f} s")
        if sys.stdout.isatty():
            print(f"\r  {index + 1} of {runs}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r", end="")
    said = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    kinds_said = ", ".join(f"{count} x {kind}" for kind, count in sorted(Counter(kinds).items()))
    good = check(not wrong, f"{runs} faults ({kinds_said}): {said}, slowest {slowest:.1f} s {wrong[:3] or ''}")
    for process in (pair.prefill, pair.decode):
        end = time.monotonic() + 40
        while process.metric("vllm:kv_cache_usage_perc") and time.monotonic() < end:
            await asyncio.sleep(0.5)
        used = process.metric("vllm:kv_cache_usage_perc")
        good &= check(used == 0, f"{process.name}: KV cache use is {used:.4f} when all is done")
    return good


async def _one(
    pair: Pair, session: aiohttp.ClientSession, rng: random.Random, kind: str, text: str, budget: str
) -> Reply:
    size = 5_000_000 if budget == "raw" else 2_000_000  # about what moves; a place behind it is no fault
    place = int(size ** rng.uniform(0.3, 1.0))
    trouble: dict[str, Any] = {"changed byte": {"flip": place}, "silence": {"stall": place}, "cut": {"cut": place}}.get(
        kind, {"rate": 1_000_000}
    )

    def other_prompt(handover: dict[str, Any]) -> None:
        handover["handle"] = handover["handle"][:16] + f"{rng.randrange(1 << 64):016x}"

    if kind == "other prompt":
        return await pair.moved(session, text, budget, rewrite=other_prompt)
    async with Relay("tcp://127.0.0.1:1", **trouble) as relay:

        def through(handover: dict[str, Any]) -> None:
            relay.point(handover["sources"][0][0])
            handover["sources"][0][0] = relay.uri

        task = asyncio.create_task(pair.moved(session, text, budget, rewrite=through))
        if kind not in {"abort", "decode killed", "prefill killed"}:
            return await task
        while relay.passed < place // 2 and not task.done():
            await asyncio.sleep(0.02)
        if kind == "abort":
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return Reply(tokens=(await pair.alone(session, text)).tokens)
        victim = pair.decode if kind == "decode killed" else pair.prefill
        victim.kill()
        reply = await task
    # Loading a model is no part of the fault's time.
    if kind == "decode killed":
        pair.decode = pair.start_decode().ready("/health")
    else:
        pair.prefill = pair.start_prefill().ready("/health")
    return reply
