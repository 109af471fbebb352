# SPDX-License-Identifier: Apache-2.0
"""Requests to vLLM's OpenAI API, and what is compared of the replies."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

TEXT = Path(__file__).resolve().parents[1] / "text" / "us-constitution-and-declaration.txt"

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Reply:
    """What came back.

    Attributes:
        tokens: generated, as strings.
        first: log-probability of every token of the vocabulary at the first generated position, when asked for.
        ttft: seconds to the first token; seconds: to the last one.
    """

    tokens: list[str] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    ttft: float = 0.0
    seconds: float = 0.0
    params: dict[str, Any] | None = None
    error: str = ""


def prompts(count: int, characters: int = 1200) -> list[str]:
    """Pieces of a text that is in the repository, evenly spread."""
    text = TEXT.read_text()
    stride = (len(text) - characters) // count
    return [text[i * stride : i * stride + characters] for i in range(count)]


async def complete(
    session: aiohttp.ClientSession,
    url: str,
    prompt: str,
    tokens: int,
    *,
    distribution: bool = False,
    params: dict[str, Any] | None = None,
) -> Reply:
    """One greedy completion, streamed unless the whole distribution is asked for."""
    body: dict[str, Any] = {
        "model": "smollm2",
        "prompt": prompt,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "temperature": 0,
        "logprobs": 49152 if distribution else 1,
        "return_tokens_as_token_ids": True,
        "stream": not distribution and tokens > 1,
    }
    if params is not None:
        body["kv_transfer_params"] = params
    reply = Reply()
    began = time.monotonic()
    try:
        async with session.post(url + "/v1/completions", json=body) as response:
            if response.status != 200:
                reply.error = f"{response.status} {(await response.text())[:300]}"
            elif body["stream"]:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        _chunk(reply, json.loads(line[6:]), time.monotonic() - began)
            else:
                answer = await response.json()
                reply.params = answer.get("kv_transfer_params")
                _chunk(reply, answer, time.monotonic() - began)
    except (aiohttp.ClientError, TimeoutError) as error:
        reply.error = repr(error)
    if not reply.error and len(reply.tokens) != tokens:
        reply.error = f"{len(reply.tokens)} of {tokens} tokens came"
    reply.seconds = time.monotonic() - began
    return reply


def _chunk(reply: Reply, answer: dict[str, Any], now: float) -> None:
    if "error" in answer:
        reply.error = str(answer["error"])
        return
    for choice in answer["choices"]:
        if choice.get("finish_reason") == "error":
            reply.error = "the request ended with an error"
        found = choice.get("logprobs")
        if found is None:
            continue
        if not reply.tokens and found["tokens"]:
            reply.ttft = now
            reply.first = dict(found["top_logprobs"][0])
        reply.tokens.extend(found["tokens"])


def kl(truth: dict[str, float], other: dict[str, float]) -> float:
    """KL divergence in nats between two whole distributions."""
    if set(truth) != set(other):
        raise ValueError(f"distributions over {len(truth)} and {len(other)} tokens: wanted the same tokens")
    return sum(math.exp(p) * (p - other[token]) for token, p in truth.items() if math.isfinite(p))


async def gather(make: Callable[[T], Awaitable[U]], items: Iterable[T], at_once: int) -> list[U]:
    """All of them, so many at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: T) -> U:
        async with gate:
            return await make(item)

    return list(await asyncio.gather(*(one(item) for item in items)))
