# SPDX-License-Identifier: Apache-2.0
"""The proxy in front of one prefill and one decode instance of vLLM, as any disaggregated deployment has one.

A request goes to the prefill instance with ``max_tokens`` 1; the ``kv_transfer_params`` of its reply go to the decode instance
with the request itself. If the prefill instance is not there the decode instance computes everything: slower, never wrong.

    python examples/vllm_pd/proxy.py --prefill http://127.0.0.1:8100 --decode http://127.0.0.1:8200 --port 8000
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

log = logging.getLogger("proxy")


def application(prefill: str, decode: str, budget: float | str | None, timeout: float) -> FastAPI:
    """The proxy. ``budget``: sent along with requests that name none; ``timeout``: seconds for a whole request."""
    state: dict[str, aiohttp.ClientSession] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout)) as session:
            state["session"] = session
            yield

    app = FastAPI(lifespan=lifespan)

    async def prefilled(path: str, body: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any] | None:
        """The prefill instance's ``kv_transfer_params``; None: it cannot help."""
        first = {**body, "max_tokens": 1, "stream": False, "kv_transfer_params": {"do_remote_decode": True, **wish}}
        first.pop("stream_options", None)
        first.pop("logprobs", None)
        first.pop("min_tokens", None)
        if "max_completion_tokens" in first:
            first["max_completion_tokens"] = 1
        try:
            async with state["session"].post(prefill + path, json=first) as reply:
                if reply.status != 200:
                    log.warning("prefill: %s %s", reply.status, (await reply.text())[:200])
                    return None
                params = (await reply.json()).get("kv_transfer_params")
                return params if isinstance(params, dict) else None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("prefill: %r; the decode instance computes the prompt", error)
            return None

    @app.post("/v1/completions")
    @app.post("/v1/chat/completions")
    async def forward(request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        wish = body.pop("kv_transfer_params", None) or ({} if budget is None else {"spectrumkv": {"budget": budget}})
        params = await prefilled(request.url.path, body, wish)
        if params is not None:
            body["kv_transfer_params"] = params
        try:
            reply = await state["session"].post(decode + request.url.path, json=body)
        except (aiohttp.ClientError, TimeoutError) as error:
            return JSONResponse({"error": {"message": f"decode instance: {error!r}", "type": "bad_gateway"}}, 502)

        async def chunks() -> AsyncIterator[bytes]:
            async with reply:
                async for chunk in reply.content.iter_any():
                    yield chunk

        if body.get("stream"):
            return StreamingResponse(chunks(), reply.status, media_type=reply.content_type)
        async with reply:
            try:
                return Response(await reply.read(), reply.status, media_type=reply.content_type)
            except aiohttp.ClientError as error:
                return JSONResponse({"error": {"message": f"decode instance: {error!r}", "type": "bad_gateway"}}, 502)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefill", required=True)
    parser.add_argument("--decode", required=True)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--budget", help='"raw", "int8" or a fraction')
    parser.add_argument("--timeout", type=float, default=300.0)
    given = parser.parse_args()
    budget = given.budget if given.budget in (None, "raw", "int8") else float(given.budget)
    logging.basicConfig(level=logging.WARNING)
    app = application(given.prefill, given.decode, budget, given.timeout)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
