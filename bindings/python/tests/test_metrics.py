# SPDX-License-Identifier: Apache-2.0
"""Counters, events, Prometheus text, exported files and the live view over them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import spectrumkv as skv
from conftest import encode, kv_arrays
from spectrumkv.cli import app
from spectrumkv.metrics import Exporter, prometheus


@pytest.fixture
def ends() -> object:
    with skv.Endpoint() as server, skv.Endpoint() as client:
        bound = server.listen("tcp://127.0.0.1:0")
        with client.connect(bound, 5) as a, server.accept(5) as b:
            yield a, b


def move(a: skv.Conn, b: skv.Conn, key: int = 7) -> int:
    with skv.Engine(threads=1) as engine:
        payload = encode(engine, skv.Cache.from_arrays(kv_arrays()))
    sending = a.send(key, payload)
    got = b.receive(5)
    sending.result(5)
    return got.nbytes


def test_counters_and_events_tell_what_happened(ends: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = ends
    size = move(a, b)
    refused = a.send(8, encode(skv.Engine(threads=1), skv.Cache.from_arrays(kv_arrays())))
    offer = b.recv_offer()
    offer.result(5)
    assert b.endpoint.stats().offers_waiting == 1
    assert a.endpoint.stats().sending == 1
    offer.reject("no room")
    with pytest.raises(skv.TransportError):
        refused.result(5)
    for end, sends in ((a, True), (b, False)):
        stats = end.endpoint.stats()
        assert (stats.conns, stats.handshakes_ok, stats.rejected, stats.failed) == (1, 1, 1, 1)
        assert (stats.sent_ok, stats.received_ok) == ((1, 0) if sends else (0, 1))
        assert sum(stats.time_log2) == sum(stats.bytes_log2) == 1
        assert stats.bytes_log2[size.bit_length() - 1] == 1
        assert sum(stats.queue_log2) == (0 if sends else 1)
        assert (stats.sending, stats.receiving, stats.offers_waiting, stats.credit_held) == (0, 0, 0, 0)
        events = end.endpoint.events()
        assert [event.kind.name for event in events] == [
            "CONN_OPEN",
            "OFFERED",
            "ACCEPTED",
            "ENDED",
            "OFFERED",
            "ENDED",
        ]
        assert [event.key for event in events] == [0, 7, 7, 7, 8, 8]
        assert [event.status.name for event in events][-3:] == ["OK", "OK", "E_REJECTED"]
        assert (events[3].bytes, events[3].sending) == (size, sends)
        assert events[3].duration_ns > 0
        assert sorted(event.time_ns for event in events) == [event.time_ns for event in events]
        assert end.endpoint.events() == []


def test_events_that_nobody_takes_make_room() -> None:
    with skv.Endpoint(events=3) as server, skv.Endpoint(events=0) as client:
        bound = server.listen("tcp://127.0.0.1:0")
        with client.connect(bound, 5) as a, server.accept(5) as b:
            move(a, b)
            assert [event.kind.name for event in server.events()] == ["OFFERED", "ACCEPTED", "ENDED"]
            assert server.stats().events_lost == 1
            assert client.events() == []
            assert client.stats().events_lost == 0


def samples(text: str) -> dict[str, float]:
    """Parses the exposition format; every line must be of it."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))", line), line
            continue
        match = re.fullmatch(r'(\w+(?:\{(?:\w+="(?:[^"\\]|\\.)*",?)*\})?) ([0-9.e+-]+)', line)
        assert match, line
        assert match[1] not in found
        found[match[1]] = float(match[2])
    return found


def test_prometheus_text(ends: tuple[skv.Conn, skv.Conn]) -> None:
    a, b = ends
    size = move(a, b)
    found = samples(prometheus(b.endpoint.stats(), endpoint='a "b"\n'))
    label = r'endpoint="a \"b\"\n"'
    assert found[f"spectrumkv_received_ok_total{{{label}}}"] == 1
    assert found[f"spectrumkv_bytes_received_total{{{label}}}"] == size
    assert found[f"spectrumkv_conns{{{label}}}"] == 1
    buckets = {k: v for k, v in found.items() if k.startswith("spectrumkv_transfer_bytes_bucket")}
    assert len(buckets) == 40
    assert list(buckets.values()) == sorted(buckets.values())
    top = 2 ** size.bit_length()
    assert buckets[f'spectrumkv_transfer_bytes_bucket{{{label},le="{top:.9g}"}}'] == 1
    assert buckets[f'spectrumkv_transfer_bytes_bucket{{{label},le="{top // 2:.9g}"}}'] == 0
    assert found[f"spectrumkv_transfer_seconds_count{{{label}}}"] == 1
    assert samples(prometheus(a.endpoint.stats()))["spectrumkv_sent_ok_total"] == 1


def test_top_shows_a_process_that_exports(ends: tuple[skv.Conn, skv.Conn], tmp_path: Path) -> None:
    a, b = ends
    json_path, text_path = tmp_path / "server.json", tmp_path / "server.prom"
    with Exporter(b.endpoint, json_path, text_path, name="decode-0", interval=0.05):
        move(a, b)
        end = time.monotonic() + 10
        while (
            b.endpoint.stats().received_ok
            and samples(text_path.read_text()).get('spectrumkv_received_ok_total{endpoint="decode-0"}') != 1
        ):
            assert time.monotonic() < end
            time.sleep(0.02)
        shown = CliRunner().invoke(app, ["top", "--once", str(json_path)])
        assert shown.exit_code == 0, shown.output
        for word in ("decode-0", "accepted ←", "ended ←", "conn open", "1 ("):
            assert word in shown.output
        live = subprocess.Popen(
            [sys.executable, "-m", "spectrumkv", "top", "--interval", "0.05", str(json_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "FORCE_COLOR": "1"},  # as on a terminal: shown while it runs, not at its end
        )
        assert live.stdout is not None
        os.set_blocking(live.stdout.fileno(), False)
        move(a, b, key=4242)
        output = b""
        end = time.monotonic() + 60  # as long as a busy machine takes to start Python
        while b"4242" not in output and time.monotonic() < end and live.poll() is None:
            output += live.stdout.read() or b""
            time.sleep(0.02)
        live.send_signal(2)
        output += live.communicate(timeout=20)[0] or b""
        assert live.returncode in (0, 130), output
        assert b"4242" in output
    assert not json_path.exists() and not text_path.exists()
    gone = CliRunner().invoke(app, ["top", "--once", str(json_path)])
    assert gone.exit_code == 1
    (tmp_path / "other.json").write_text("{}")
    assert CliRunner().invoke(app, ["top", "--once", str(tmp_path / "other.json")]).exit_code == 1
