# SPDX-License-Identifier: Apache-2.0
"""A conversation moves from one llama.cpp server to another, which goes on without evaluating it again.

Two processes serve SmolLM2-135M (llama-cpp-python) with a few of llama-server's routes: POST /completion and POST /slots/0?action=…
(save, restore; and migrate, which sends the slot's state over TCP as a payload). Printed are what travelled, how many tokens each
server evaluated and whether the text is the same: after a raw payload, and after one of 0.28 of the raw bytes, proven by the model's profile.

    scripts/setup.sh                                                             # llama.cpp and the model, once
    PYTHONPATH=bindings/python/src build/venv/bin/python examples/slot_migration.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from llama_cpp import Llama

import spectrumkv as skv
from spectrumkv.llamacpp import decode_session, encode_session, load_session, save_session
from spectrumkv.models import fetch, fingerprint_of, full_precision

HERE = Path(__file__).parent
PROFILE = HERE.parent / "docs" / "results" / "profiles" / "smollm2-135m.json"
WAIT = 60.0  # seconds


class Slot:
    """The server's one sequence, and the states that others sent for it."""

    def __init__(self, model: Path, threads: int) -> None:
        self.llama = Llama(str(model), n_ctx=2048, n_batch=256, n_threads=threads, flash_attn=True, verbose=False)
        self.engine = skv.Engine()
        self.profile = skv.Profile.open(PROFILE.read_text())
        self.endpoint = skv.Endpoint(model=fingerprint_of(model))
        self.uri = self.endpoint.listen("tcp://127.0.0.1:0")
        self.arrival = threading.Condition()
        self.came: dict[str, skv.Payload] = {}  # by request id
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                with self.endpoint.accept(3600.0) as conn:
                    payload = conn.receive(WAIT)
            except skv.TransportError as error:
                print(f"a transfer failed: {error}", file=sys.stderr)
                continue
            with self.arrival:
                self.came[payload.identity[1].hex()] = payload
                self.arrival.notify_all()

    def completion(self, prompt: str, n_predict: int, state: str | None = None) -> dict[str, Any]:
        """``state`` names one that another server sent, or is about to have sent."""
        ids = self.llama.tokenize(prompt.encode())
        if state is not None:
            with self.arrival:
                if not self.arrival.wait_for(lambda: state in self.came, WAIT):
                    raise KeyError(f"state {state} has not come")
                payload = self.came.pop(state)
            decode_session(payload, self.llama, ids, engine=self.engine)
        known = Llama.longest_token_prefix(self.llama.input_ids[: self.llama.n_tokens].tolist(), ids[:-1])
        tokens: list[int] = []
        for token in self.llama.generate(ids, top_k=1):
            tokens.append(token)
            if len(tokens) == n_predict:
                break
        return {
            "content": self.llama.detokenize(tokens).decode(errors="replace"),
            "tokens": tokens,
            "tokens_cached": known,
            "tokens_evaluated": len(ids) - known,
        }

    def save(self, filename: str, budget: float | None = None) -> dict[str, Any]:
        receipt = save_session(filename, self.llama, budget=budget, engine=self.engine, profile=self.profile)
        return {"n_written": receipt.payload_bytes}

    def restore(self, filename: str, prompt: str) -> dict[str, Any]:
        return {
            "n_restored": load_session(filename, self.llama, self.llama.tokenize(prompt.encode()), engine=self.engine)
        }

    def migrate(self, to: str, budget: float | None = None) -> dict[str, Any]:
        payload = encode_session(self.llama, budget=budget, engine=self.engine, profile=self.profile)
        with self.endpoint.connect(to, WAIT) as conn:
            conn.send(0, payload, WAIT).result(WAIT)
        receipt = payload.receipt()
        return {
            "state": payload.identity[1].hex(),
            "bytes": receipt.payload_bytes,
            "of_raw": receipt.ratio,
            "encode_ms": receipt.encode_ns / 1e6,
        }


def serve(model: Path, threads: int) -> None:
    slot = Slot(model, threads)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            routes = {
                "/completion": slot.completion,
                "/slots/0?action=save": slot.save,
                "/slots/0?action=restore": slot.restore,
                "/slots/0?action=migrate": slot.migrate,
            }
            try:
                status, answer = 200, routes[self.path](**body)
            except (skv.SpectrumKVError, KeyError, TypeError) as error:
                status, answer = 400, {"error": str(error)}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps({"http": f"http://127.0.0.1:{server.server_port}", "kv": slot.uri}), flush=True)
    server.serve_forever()


class Server:
    """A server process, and requests to it."""

    def __init__(self, model: Path, threads: int) -> None:
        command = [sys.executable, __file__, "--serve", str(model), "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.where: dict[str, str] = json.loads(self.process.stdout.readline())

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(self.where["http"] + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=600) as answer:
            result: dict[str, Any] = json.load(answer)
            return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--characters", type=int, default=3000, help="of the prompt")
    parser.add_argument("--predict", type=int, default=32, help="tokens before and after the move")
    parser.add_argument(
        "--budget", type=float, default=0.28, help="of the second payload, as a fraction of the raw bytes"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", type=Path, metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.threads)
        return 0

    model = full_precision(fetch("smollm2"))
    text = (HERE / "text" / "us-constitution-and-declaration.txt").read_text()[: options.characters]
    servers: list[Server] = []
    try:
        servers += [Server(model, options.threads), Server(model, options.threads)]
        first, second = servers
        said = first.post("/completion", prompt=text, n_predict=options.predict)
        longer = text + said["content"]
        stays = {"raw": None, f"{options.budget:.2f}": options.budget}
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "slot.skv")
            saved = first.post("/slots/0?action=save", filename=file, budget=options.budget)
            restored = second.post("/slots/0?action=restore", filename=file, prompt=longer)
        wanted = first.post("/completion", prompt=longer, n_predict=options.predict)
        print(f"first server: {said['tokens_evaluated']} tokens evaluated, then {wanted['tokens_evaluated']} to go on")
        print(f"a file of {saved['n_written']} bytes restores {restored['n_restored']} tokens in the second")
        good = True
        for name, budget in stays.items():
            # The second server forgets what it knows of the conversation; a move for each budget.
            second.post("/completion", prompt="Forget.", n_predict=1)
            first.post("/completion", prompt=longer, n_predict=1)
            moved = first.post("/slots/0?action=migrate", to=second.where["kv"], budget=budget)
            got = second.post("/completion", prompt=longer, n_predict=options.predict, state=moved["state"])
            pairs = list(zip(wanted["tokens"], got["tokens"]))
            until = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
            good = good and got["tokens_evaluated"] == 1 and (budget is not None or until == len(pairs))
            print(
                f"{name:>5}: {moved['bytes']:>9} bytes ({moved['of_raw']:.3f} of raw) moved;"
                f" second server: {got['tokens_cached']} tokens known, {got['tokens_evaluated']} evaluated;"
                f" {until} of {len(pairs)} tokens until the texts differ"
            )
        print("raw: the same text, nothing evaluated twice" if good else "NOT the same text, or tokens evaluated twice")
        return 0 if good else 1
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


if __name__ == "__main__":
    sys.exit(main())
