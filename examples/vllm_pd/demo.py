# SPDX-License-Identifier: Apache-2.0
"""One prefill and one decode instance of vLLM with our connector between them: what it gains, and that it loses nothing.

Run by run.sh. Parts:

  speed    requests through the proxy: time to first token and tokens a second, at a budget, raw, and with vLLM's example connector
  exact    raw mode gives the monolithic instance's greedy tokens, for every prompt
  budget   at a budget: share of prompts with the same first 16 tokens, and KL divergence of the first position
  refused  a budget that the model's probe forbids: 8 bits or raw instead, and both log and metrics say so
  mixed    8 requests at a time, short and long: no block stays taken
  pressure a decode instance with a prefix cache and too few blocks: cache hits, preemptions, and still the same tokens
  faults   changed bytes, a silent network, either instance killed: recomputed or a clear error, in time, never another answer
  soak     minutes of requests of all lengths, 8 at a time: no block, descriptor, thread or memory stays (only when named)
  storm    many such faults at random (only when named)
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from client import Reply, complete, gather, kl, prompts
from endurance import soak, storm
from relay import Relay
from servers import ROOT, Process, connector, proxy, vllm

import spectrumkv as skv

PROFILE = ROOT / "docs" / "results" / "profiles" / "smollm2-135m.json"
# The profile was made from the GGUF file; the instances serve the same weights, converted.
FINGERPRINT = "6532799f494167f79cf75f7de685ad44fe6a1fe1a9cd41d7a2cd9603e64d4b9b"
LOAD_TIMEOUT = 8.0
TOKENS = 16


class Pair:
    """The two instances."""

    def __init__(
        self,
        model: Path,
        logs: Path,
        *,
        pack: bool = False,
        queries: int = 16,
        cached: bool = True,
        pieces: bool = True,
    ) -> None:
        """``pieces``: prompts are prefilled in pieces of 256 tokens, not as vLLM does by itself (up to 2,048)."""
        self.model, self.logs, self.pack, self.queries, self.cached = model, logs, pack, queries, cached
        self.pieces = pieces
        self.started = 0
        self.prefill = self.start_prefill()
        self.decode = self.start_decode()
        try:
            self.prefill.ready("/health")
            self.decode.ready("/health")
        except BaseException:
            self.close()
            raise

    def start_prefill(self, profile: Path = PROFILE) -> Process:
        extra: dict[str, Any] = {
            "profile": str(profile),
            "fingerprint": FINGERPRINT,
            "load_timeout": LOAD_TIMEOUT,
            "expiry": 20,
            "pack": self.pack,
            "queries": self.queries,
        }
        pieces = ("--max-num-batched-tokens", "256") if self.pieces else ()
        cached = () if self.cached else ("--no-enable-prefix-caching",)
        return self._start("prefill", connector("kv_producer", **extra), *pieces, *cached)

    def start_decode(self, *more: str) -> Process:
        extra = {"fingerprint": FINGERPRINT, "load_timeout": LOAD_TIMEOUT, "loads": 8}
        # No prefix cache: an answer computed here once must not stand in for a transfer.
        return self._start("decode", connector("kv_consumer", **extra), *(more or ("--no-enable-prefix-caching",)))

    def _start(self, name: str, transfer: dict[str, Any], *more: str) -> Process:
        self.started += 1
        return vllm(f"{name}-{self.started}", self.model, transfer, self.logs, *more)

    async def alone(self, session: aiohttp.ClientSession, prompt: str, **more: Any) -> Reply:
        """What the decode instance answers without a transfer: the truth."""
        return await complete(session, self.decode.url, prompt, more.pop("tokens", TOKENS), **more)

    async def moved(
        self,
        session: aiohttp.ClientSession,
        prompt: str,
        budget: float | str,
        *,
        rewrite: Callable[[dict[str, Any]], None] | None = None,
        **more: Any,
    ) -> Reply:
        """The same with the prompt computed by the prefill instance. ``rewrite`` changes what the decode instance is told."""
        params: dict[str, Any] = {"do_remote_decode": True, "spectrumkv": {"budget": budget}}
        first = await complete(session, self.prefill.url, prompt, 1, params=params)
        if first.params is None:
            raise RuntimeError(f"prefill gave no kv_transfer_params: {first.error}")
        if rewrite is not None:
            rewrite(first.params["spectrumkv"])
        return await complete(session, self.decode.url, prompt, more.pop("tokens", TOKENS), params=first.params, **more)

    def close(self) -> None:
        self.decode.stop()
        self.prefill.stop()


def counts(process: Process, *names: str) -> dict[str, float]:
    return {name: process.metric(f"vllm:spectrumkv_{name}_total") for name in names}


def settle(condition: Callable[[], bool], seconds: float) -> bool:
    """Metrics arrive with the next step: waits for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.25)
    return True


def check(good: bool, text: str) -> bool:
    print(f"  {'ok  ' if good else 'FAIL'} {text}", flush=True)
    return good


# ---------------------------------------------------------------------------------------------------------- parts


async def exact(pair: Pair, session: aiohttp.ClientSession, count: int) -> bool:
    texts = prompts(count)
    truth = await gather(lambda text: pair.alone(session, text), texts, 8)
    before = counts(pair.decode, "loaded", "load_failures")
    moved = await gather(lambda text: pair.moved(session, text, "raw"), texts, 8)
    same = sum(a.tokens == b.tokens and not a.error and not b.error for a, b in zip(truth, moved))
    settle(lambda: counts(pair.decode, "loaded")["loaded"] - before["loaded"] >= count, 5)
    after = counts(pair.decode, "loaded", "load_failures")
    loaded = after["loaded"] - before["loaded"]
    good = check(same == count, f"raw: {same} of {count} prompts give the monolithic {TOKENS} greedy tokens")
    return check(loaded == count, f"raw: {loaded:.0f} of {count} KV caches were moved, not recomputed") and good


async def budgeted(
    pair: Pair, session: aiohttp.ClientSession, count: int, budget: float | str, characters: int
) -> bool:
    texts = prompts(count, characters)
    truth = await gather(lambda text: pair.alone(session, text), texts, 8)
    before = counts(pair.decode, "loaded")["loaded"]
    names = ("encoded", "encoded_bytes", "encoded_raw_bytes", "fallbacks", "queries_used")
    sent = counts(pair.prefill, *names)
    moved = await gather(lambda text: pair.moved(session, text, budget), texts, 8)
    same = sum(a.tokens == b.tokens and not a.error and not b.error for a, b in zip(truth, moved))
    settle(lambda: counts(pair.decode, "loaded")["loaded"] - before >= count, 5)
    loaded = counts(pair.decode, "loaded")["loaded"] - before
    now = counts(pair.prefill, *names)
    delta = {name: now[name] - sent[name] for name in now}
    ratio = delta["encoded_bytes"] / max(delta["encoded_raw_bytes"], 1)

    async def divergence(text: str) -> float:
        whole = await pair.alone(session, text, tokens=1, distribution=True)
        other = await pair.moved(session, text, budget, tokens=1, distribution=True)
        if whole.error or other.error:
            raise RuntimeError(whole.error or other.error)
        return kl(whole.first, other.first)

    values = await gather(divergence, texts, 2)
    mean = statistics.fmean(values)
    good = check(
        loaded == count,
        f"budget {budget}: {loaded:.0f} of {count} KV caches were moved at {ratio:.4f} of 16-bit size,"
        f" {delta['fallbacks']:.0f} with more bits than asked for, {delta['queries_used']:.0f} scored by queries",
    )
    # Free text has near ties, which any loss may turn; so this is shown beside its goal, and KL decides.
    print(f"       {same} of {count} prompts give the monolithic first {TOKENS} tokens (goal: 98 %)", flush=True)
    return (
        check(
            mean <= 0.01,
            f"budget {budget}: KL of the first position: mean {mean:.5f}, median {statistics.median(values):.5f},"
            f" largest {max(values):.5f} nats (mean of at most 0.01 wanted)",
        )
        and good
    )


async def refused(pair: Pair, session: aiohttp.ClientSession) -> bool:
    """Needs a prefill instance of its own, whose profile says no."""
    with skv.Profile(FINGERPRINT, 30) as profile:
        profile.set_verdict(skv.Probe.NEEDLE, skv.Verdict.NO, 1, 3)
        path = pair.logs / "refused.json"
        path.write_text(profile.save())
    pair.prefill.stop()
    pair.prefill = pair.start_prefill(path).ready("/health")
    texts = prompts(4)
    truth = await gather(lambda text: pair.alone(session, text), texts, 4)
    moved = await gather(lambda text: pair.moved(session, text, 0.28), texts, 4)
    same = sum(a.tokens == b.tokens and not b.error for a, b in zip(truth, moved))
    settle(lambda: counts(pair.prefill, "fallbacks")["fallbacks"] >= 4, 5)
    now = counts(pair.prefill, "fallbacks", "encoded_bytes", "encoded_raw_bytes")
    said = [line for line in pair.prefill.log.read_text(errors="replace").splitlines() if "not kept" in line]
    good = check(same == 4, f"refused budget 0.28: {same} of 4 prompts give the monolithic tokens")
    good &= check(now["fallbacks"] == 4, f"metrics say {now['fallbacks']:.0f} fallbacks, at"
                  f" {now['encoded_bytes'] / max(now['encoded_raw_bytes'], 1):.4f} of 16-bit size")  # fmt: skip
    return check(bool(said), f"the log says: {said[0].partition('budget')[2][:160] if said else 'nothing'}") and good


async def mixed(pair: Pair, session: aiohttp.ClientSession, count: int) -> bool:
    texts = [
        text for group in zip(prompts(count // 4, 100), prompts(count // 4, 700), prompts(count // 4, 2500),
                              prompts(count // 4, 4500)) for text in group
    ]  # fmt: skip
    front = proxy(pair.prefill.url, pair.decode.url, pair.logs, "--budget", "0.4")
    try:
        truth = await gather(lambda text: pair.alone(session, text, tokens=4), texts, 8)
        moved = await gather(lambda text: complete(session, front.url, text, 4), texts, 8)
    finally:
        front.stop()
    failed = [reply.error for reply in moved if reply.error]
    same = sum(a.tokens == b.tokens for a, b in zip(truth, moved))
    good = check(
        not failed, f"mixed lengths, 8 at a time: {len(moved) - len(failed)} of {len(moved)} completed {failed[:1]}"
    )
    print(f"       {same} of {len(texts)} give the same 4 tokens at budget 0.4")
    for process in (pair.prefill, pair.decode):
        free = settle(lambda process=process: process.metric("vllm:kv_cache_usage_perc") == 0, 30)  # type: ignore[misc]
        good &= check(
            free, f"{process.name}: KV cache use is {process.metric('vllm:kv_cache_usage_perc'):.4f} when all is done"
        )
    return good


async def pressure(pair: Pair, session: aiohttp.ClientSession) -> bool:
    """Needs a decode instance of its own. The prefill instance, asked without a transfer, tells what is right."""
    pair.decode.stop()
    blocks = 68  # of 32 tokens: enough for one prompt of the largest length, and for six of the requests below, not for eight
    pair.decode = pair.start_decode("--num-gpu-blocks-override", str(blocks)).ready("/health")
    short = prompts(8)
    texts = [*short, *(text + " " + more for text, more in zip(short, prompts(8, 400)))]
    tokens = 64
    truth = await gather(lambda text: complete(session, pair.prefill.url, text, tokens), texts, 8)
    moved = []
    for half in (texts[:8], texts[8:]):
        moved += await gather(lambda text: pair.moved(session, text, "raw", tokens=tokens), half, 8)
    # The last one begins like the one before it, whose blocks are in the cache.
    for again in (0, 8):
        moved.append(await pair.moved(session, texts[again], "raw", tokens=tokens))
        truth.append(truth[again])
    same = sum(a.tokens == b.tokens and not b.error for a, b in zip(truth, moved))
    good = check(
        same == len(moved), f"{same} of {len(moved)} prompts give the same {tokens} tokens with {blocks} blocks in all"
    )
    preempted = pair.decode.metric("vllm:num_preemptions_total")
    good &= check(preempted > 0, f"{preempted:.0f} preemptions")
    hits = pair.decode.metric("vllm:prefix_cache_hits_total")
    good &= check(hits > 0, f"{hits:.0f} tokens of prefix-cache hits")
    now = counts(pair.decode, "loaded", "load_failures", "loaded_tokens")
    good &= check(
        now["load_failures"] == 0 and now["loaded"] > 0,
        f"{now['loaded']:.0f} loads of {now['loaded_tokens']:.0f} tokens",
    )
    free = settle(lambda: pair.decode.metric("vllm:kv_cache_usage_perc") == 0, 30)
    good &= check(free, "decode holds no block when all is done")
    pair.decode.stop()
    pair.decode = pair.start_decode().ready("/health")
    return good


async def faults(pair: Pair, session: aiohttp.ClientSession) -> bool:
    text = prompts(3)[1]
    truth = await pair.alone(session, text)
    limit = LOAD_TIMEOUT + 30  # to recompute, on a machine that does other things too
    good = True

    def through(relay: Relay) -> Callable[[dict[str, Any]], None]:
        def rewrite(handover: dict[str, Any]) -> None:
            relay.point(handover["sources"][0][0])
            handover["sources"][0][0] = relay.uri

        return rewrite

    def judge(what: str, reply: Reply) -> bool:
        right = not reply.error and reply.tokens == truth.tokens
        return check(
            (right or bool(reply.error)) and reply.seconds < limit,
            f"{what}: {'recomputed, the right answer' if right else reply.error or 'ANOTHER ANSWER'}"
            f" after {reply.seconds:.1f} s",
        )

    before = counts(pair.decode, "load_failures")["load_failures"]
    for flip in (40, 700, 5_000, 400_000, 3_000_000):
        async with Relay("tcp://127.0.0.1:1", flip=flip) as relay:
            reply = await pair.moved(session, text, "raw", rewrite=through(relay))
            good &= judge(f"byte {flip} changed on the way", reply) and reply.tokens == truth.tokens
    async with Relay("tcp://127.0.0.1:1", stall=1_000_000) as relay:
        reply = await pair.moved(session, text, "raw", rewrite=through(relay))
        good &= judge("network silent after 1 MB", reply)
    settle(lambda: counts(pair.decode, "load_failures")["load_failures"] - before >= 6, 5)
    failures = counts(pair.decode, "load_failures")["load_failures"] - before
    good &= check(failures == 6, f"{failures:.0f} of these 6 loads failed, as they should")
    reply = await pair.moved(session, text, "raw")
    good &= check(reply.tokens == truth.tokens, "a transfer right after that works")

    def other_prompt(handover: dict[str, Any]) -> None:
        handover["handle"] = handover["handle"][:16] + "0" * 16

    reply = await pair.moved(session, text, "raw", rewrite=other_prompt)
    good &= judge("parameters of another prompt", reply) and reply.tokens == truth.tokens

    async def midway(relay: Relay, size: int) -> asyncio.Task[Reply]:
        """A request of whose KV cache so many bytes came through."""
        task = asyncio.create_task(pair.moved(session, text, "raw", rewrite=through(relay)))
        while relay.passed < size and not task.done():
            await asyncio.sleep(0.02)
        return task

    async with Relay("tcp://127.0.0.1:1", rate=500_000) as relay:
        task = await midway(relay, 1_000_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        free = settle(lambda: pair.decode.metric("vllm:kv_cache_usage_perc") == 0, LOAD_TIMEOUT)
        good &= check(
            free and relay.passed < 4_000_000, f"aborted after {relay.passed / 1e6:.1f} MB: decode holds no block"
        )

    async def killing(victim: Process, what: str) -> Reply:
        async with Relay("tcp://127.0.0.1:1", rate=1_000_000) as relay:
            task = await midway(relay, 2_000_000)
            check(not task.done(), f"{what} after {relay.passed / 1e6:.1f} MB of its KV cache")
            victim.kill()
            return await task

    reply = await killing(pair.decode, "decode killed")
    good &= check(
        bool(reply.error) and reply.seconds < limit, f"decode killed: {reply.error} after {reply.seconds:.1f} s"
    )
    free = settle(lambda: pair.prefill.metric("vllm:kv_cache_usage_perc") == 0, 10)
    good &= check(free, "prefill holds no block for it")
    pair.decode = pair.start_decode().ready("/health")
    reply = await pair.moved(session, text, "raw")
    good &= check(reply.tokens == truth.tokens, "the prefill instance serves the next decode instance")
    reply = await killing(pair.prefill, "prefill killed")
    good &= judge("prefill killed", reply)
    front = proxy(pair.prefill.url, pair.decode.url, pair.logs)
    reply = await complete(session, front.url, text, TOKENS)
    front.stop()
    good &= check(
        reply.tokens == truth.tokens, f"without a prefill instance the proxy still answers, after {reply.seconds:.1f} s"
    )
    free = settle(lambda: pair.decode.metric("vllm:kv_cache_usage_perc") == 0, 30)
    return check(free, "decode holds no block") and good


async def load(session: aiohttp.ClientSession, url: str, texts: list[str], name: str) -> None:
    """Prints a row of the table of speeds."""
    began = time.monotonic()
    replies = await gather(lambda text: complete(session, url, text, 32), texts, 4)
    took = time.monotonic() - began
    failed = [reply.error for reply in replies if reply.error]
    if failed:
        print(f"  {name}: {len(failed)} failed: {failed[0]}")
        return
    ttft = sorted(reply.ttft for reply in replies)
    speed = sum(len(reply.tokens) for reply in replies) / took
    print(
        f"  {name:24} TTFT median {statistics.median(ttft):7.3f} s, p90 {ttft[int(0.9 * (len(ttft) - 1))]:7.3f} s"
        f"   {speed:6.1f} tokens/s",
        flush=True,
    )


def fresh(count: int, arm: int) -> list[str]:
    """Prompts that no other arm has: the prefill instance has a prefix cache."""
    return prompts(3 * count, 2000)[arm::3]


WARM = 4


async def warm(session: aiohttp.ClientSession, url: str, arm: int) -> None:
    """Requests that are not timed: what both instances do once would be the first arm's."""
    await gather(lambda text: complete(session, url, text, 8), prompts(3 * WARM, 1500)[arm::3], 4)


async def speed(pair: Pair, session: aiohttp.ClientSession, count: int, budget: float | str) -> None:
    print(f"{count} requests, 4 at a time, 32 tokens each, prompts of about 480 tokens:")
    for arm, (name, setting) in enumerate(((f"SpectrumKV, budget {budget}", str(budget)), ("SpectrumKV, raw", "raw"))):
        texts = fresh(count, arm)
        front = proxy(pair.prefill.url, pair.decode.url, pair.logs, "--budget", setting)
        try:
            first = counts(pair.decode, "loaded")["loaded"]
            await warm(session, front.url, arm)
            settle(lambda first=first: counts(pair.decode, "loaded")["loaded"] - first >= WARM, 3)  # type: ignore[misc]
            before = counts(pair.decode, "loaded", "loaded_bytes")
            await load(session, front.url, texts, name)
            settle(lambda before=before: counts(pair.decode, "loaded")["loaded"] - before["loaded"] >= count, 3)  # type: ignore[misc]
            now = counts(pair.decode, "loaded", "loaded_bytes")
            moved = now["loaded"] - before["loaded"]
            size = (now["loaded_bytes"] - before["loaded_bytes"]) / max(moved, 1) / 1e6
            print(f"  {'':24} {moved:.0f} KV caches of {size:.2f} MB moved")
        finally:
            front.stop()


async def example(model: Path, logs: Path, session: aiohttp.ClientSession, count: int) -> None:
    """The same with vLLM's own example connector, which writes files that the other instance reads."""
    with tempfile.TemporaryDirectory() as folder:
        transfer = {"kv_connector": "ExampleConnector", "kv_connector_extra_config": {"shared_storage_path": folder}}
        first = vllm("example-prefill", model, {**transfer, "kv_role": "kv_producer"}, logs)
        second = vllm(
            "example-decode", model, {**transfer, "kv_role": "kv_consumer"}, logs, "--no-enable-prefix-caching"
        )
        front = None
        try:
            first.ready("/health")
            second.ready("/health")
            front = proxy(first.url, second.url, logs)
            await warm(session, front.url, 2)
            await load(session, front.url, fresh(count, 2), "vLLM ExampleConnector")
        finally:
            for process in (front, second, first):
                if process is not None:
                    process.stop()


# ----------------------------------------------------------------------------------------------------------- main

PARTS = ("speed", "exact", "budget", "mixed", "pressure", "refused", "faults")


async def run(parts: list[str], given: argparse.Namespace) -> bool:
    good = True
    timeout = aiohttp.ClientTimeout(900)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session:

        def start(pieces: bool) -> Pair:
            cached = not given.no_prefix_cache
            return Pair(given.model, given.logs, pack=given.pack, queries=given.queries, cached=cached, pieces=pieces)

        if "speed" in parts:
            print("speed:", flush=True)
            pair = start(pieces=False)  # as the example connector's: it fails with prompts in pieces
            try:
                await speed(pair, session, given.requests, given.budget)
            finally:
                pair.close()
        if "speed" in parts or "example" in parts:
            await example(given.model, given.logs, session, given.requests)
        others = [part for part in parts if part not in {"speed", "example"}]
        if others:
            pair = start(pieces=True)
            try:
                for part in others:
                    print(f"{part}:", flush=True)
                    if part == "exact":
                        good &= await exact(pair, session, given.prompts)
                    elif part == "budget":
                        good &= await budgeted(pair, session, given.prompts, given.budget, given.characters)
                    elif part == "mixed":
                        good &= await mixed(pair, session, 24)
                    elif part == "pressure":
                        good &= await pressure(pair, session)
                    elif part == "refused":
                        good &= await refused(pair, session)
                    elif part == "faults":
                        good &= await faults(pair, session)
                    elif part == "soak":
                        good &= await soak(pair, session, given.seconds, check)
                    elif part == "storm":
                        good &= await storm(pair, session, given.runs, LOAD_TIMEOUT + 30, check)
            finally:
                pair.close()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--model", type=Path, required=True, help="folder with the model")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the servers' logs")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--requests", type=int, default=16, help="of the part speed")
    parser.add_argument("--budget", default="0.4", help='of the parts speed and budget: a fraction, "int8" or "raw"')
    parser.add_argument("--seconds", type=float, default=300, help="of the part soak")
    parser.add_argument("--runs", type=int, default=100, help="of the part storm")
    parser.add_argument("--characters", type=int, default=1200, help="of a prompt, in the part budget")
    parser.add_argument("--pack", action="store_true", help="the prefill instance packs payloads")
    parser.add_argument(
        "--queries", type=int, default=16, help="last queries that score a prompt; 0: keys and values do"
    )
    parser.add_argument(
        "--no-prefix-cache",
        action="store_true",
        help="the prefill instance computes every prompt as a whole: the second request of a prompt has all its queries, too",
    )
    given = parser.parse_intermixed_args()
    if given.budget not in {"raw", "int8"}:
        given.budget = float(given.budget)
    parts = given.parts or list(PARTS)
    unknown = set(parts) - {*PARTS, "example", "soak", "storm"}
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}: wanted of {', '.join(PARTS)}")
    given.logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # Else the servers, which are in sessions of their own, would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    good = asyncio.run(run(parts, given))
    print(f"{'all as it should be' if good else 'FAILED'} ({time.monotonic() - began:.0f} s; logs in {given.logs})")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
