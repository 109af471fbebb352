# SPDX-License-Identifier: Apache-2.0
"""The scheduler's half of the vLLM connector, with requests that look like vLLM's; and what it is configured and told with."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import spectrumkv as skv
from spectrumkv.vllm.config import Settings
from spectrumkv.vllm.handover import KEY, Handover, Source, digest, new_handle
from spectrumkv.vllm.identity import fingerprint_of
from spectrumkv.vllm.scheduler import SchedulerSide
from spectrumkv.vllm.stats import Tally, merge, summary

MODEL = bytes(range(32))
SOURCES = (Source("tcp://127.0.0.1:5600", 0, 3),)
PROMPT = list(range(100, 170))  # 70 tokens: three blocks of 32


class Ended(enum.Enum):
    FINISHED_STOPPED = 1
    FINISHED_LENGTH_CAPPED = 2
    FINISHED_ABORTED = 3
    RUNNING = 4


@dataclass
class FakeRequest:
    request_id: str = "r1"
    prompt_token_ids: list[int] | None = field(default_factory=lambda: list(PROMPT))
    kv_transfer_params: dict[str, Any] | None = None
    num_computed_tokens: int = 0
    status: Ended = Ended.RUNNING
    lora_request: Any = None
    mm_features: list[Any] = field(default_factory=list)


@dataclass
class Named:
    lora_name: str = ""
    identifier: str = ""


def side(*, producer: bool = False, consumer: bool = False, model: bytes = MODEL) -> SchedulerSide:
    made = SchedulerSide(Settings(), model, 32, producer=producer, consumer=consumer, tally=Tally())
    made.set_sources(SOURCES)
    return made


def prefilled(**changes: Any) -> dict[str, Any]:
    """What the prefill side says about a finished request."""
    request = FakeRequest(
        kv_transfer_params={"do_remote_decode": True}, num_computed_tokens=70, status=Ended.FINISHED_LENGTH_CAPPED
    )
    for name, value in changes.items():
        setattr(request, name, value)
    hold, params = side(producer=True).finished(request, [4, 9, 2, 7])
    assert hold
    assert params is not None
    # It goes over HTTP.
    copy: dict[str, Any] = json.loads(json.dumps(params))
    return copy


# ------------------------------------------------------------------------------------------------------ prefill side


@pytest.mark.parametrize("status", [Ended.FINISHED_LENGTH_CAPPED, Ended.FINISHED_STOPPED])
def test_a_finished_prefill_is_held_and_named(status: Ended) -> None:
    made = side(producer=True)
    request = FakeRequest(kv_transfer_params={"do_remote_decode": True}, num_computed_tokens=70, status=status)
    hold, params = made.finished(request, [4, 9, 2, 7])
    assert hold
    assert params is not None
    assert params["do_remote_prefill"] is True
    handover = Handover.from_json(json.loads(json.dumps(params[KEY])))
    assert (handover.tokens, handover.fingerprint, handover.sources) == (70, MODEL, SOURCES)
    step = made.take_step()
    assert [(job.request, job.handle, job.blocks, job.tokens) for job in step.sends] == [
        ("r1", handover.handle, (4, 9, 2), 70)
    ]
    assert not made.take_step().sends


def test_tokens_of_an_answer_are_not_sent() -> None:
    assert prefilled(num_computed_tokens=75)[KEY]["tokens"] == 70


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Ended.FINISHED_ABORTED},
        {"kv_transfer_params": None},
        {"kv_transfer_params": {"do_remote_prefill": True}},
        {"prompt_token_ids": None},
        {"num_computed_tokens": 0},
    ],
)
def test_blocks_of_other_requests_are_freed_at_once(changes: dict[str, Any]) -> None:
    request = FakeRequest(
        kv_transfer_params={"do_remote_decode": True}, num_computed_tokens=70, status=Ended.FINISHED_STOPPED
    )
    for name, value in changes.items():
        setattr(request, name, value)
    made = side(producer=True)
    assert made.finished(request, [4, 9, 2]) == (False, None)
    assert not made.take_step().sends


def test_a_consumer_sends_nothing_and_a_producer_loads_nothing() -> None:
    request = FakeRequest(
        kv_transfer_params={"do_remote_decode": True}, num_computed_tokens=70, status=Ended.FINISHED_STOPPED
    )
    assert side(consumer=True).finished(request, [4, 9, 2]) == (False, None)
    assert side(producer=True).matched(FakeRequest(kv_transfer_params=prefilled()), 0) == (0, False)


def test_a_requests_own_budget_travels_to_the_worker() -> None:
    made = side(producer=True)
    request = FakeRequest(
        kv_transfer_params={"do_remote_decode": True, KEY: {"budget": 0.3}},
        num_computed_tokens=70,
        status=Ended.FINISHED_STOPPED,
    )
    made.finished(request, [4, 9, 2])
    assert made.take_step().sends[0].budget == 0.3


# ------------------------------------------------------------------------------------------------------- decode side


def test_the_prompt_is_loaded_between_steps() -> None:
    made = side(consumer=True)
    request = FakeRequest(kv_transfer_params=prefilled())
    assert made.matched(request, 0) == (70, True)
    assert made.matched(request, 0) == (70, True)  # no side effects
    made.allocated(request, [11, 12, 13, 14], 70)
    (job,) = made.take_step().loads
    assert (job.request, job.blocks, job.start, job.tokens, job.sources) == ("r1", (11, 12, 13), 0, 70, SOURCES)
    # Called again when the load has ended.
    made.allocated(request, [11, 12, 13, 14], 0)
    assert not made.take_step().loads


def test_prefix_cache_hits_are_not_loaded_again() -> None:
    made = side(consumer=True)
    request = FakeRequest(kv_transfer_params=prefilled())
    assert made.matched(request, 64) == (6, True)
    made.allocated(request, [11, 12, 13], 6)
    (job,) = made.take_step().loads
    assert (job.start, job.tokens) == (64, 70)


def test_a_hit_of_the_whole_prompt_loads_nothing() -> None:
    made = side(consumer=True)
    request = FakeRequest(kv_transfer_params=prefilled(num_computed_tokens=64))
    assert made.matched(request, 64) == (0, False)
    made.allocated(request, [11, 12, 13], 0)
    assert not made.take_step().loads


def test_a_failed_load_is_not_tried_again() -> None:
    made = side(consumer=True)
    request = FakeRequest(kv_transfer_params=prefilled())
    made.matched(request, 0)
    made.allocated(request, [11, 12, 13], 70)
    made.take_step()
    assert made.matched(request, 0) == (0, False)  # vLLM asks again, to recompute


def test_a_longer_prompt_is_loaded_as_far_as_it_goes() -> None:
    request = FakeRequest(kv_transfer_params=prefilled(), prompt_token_ids=[*PROMPT, 1, 2, 3])
    assert side(consumer=True).matched(request, 0) == (70, True)


def refusal(params: dict[str, Any], **changes: Any) -> None:
    tally = Tally()
    made = SchedulerSide(Settings(), MODEL, 32, producer=False, consumer=True, tally=tally)
    request = FakeRequest(kv_transfer_params=params)
    for name, value in changes.items():
        setattr(request, name, value)
    assert made.matched(request, 0) == (0, False)
    made.allocated(request, [1, 2, 3], 0)
    assert not made.take_step().loads
    assert tally.take() == {"refused": 1}


def test_another_prompt_another_model_or_another_adapter_is_computed_here() -> None:
    refusal(prefilled(), prompt_token_ids=[*PROMPT[:-1], 5])
    refusal(prefilled(), prompt_token_ids=PROMPT[:60])
    refusal(prefilled(), lora_request=Named(lora_name="poet"))
    refusal(prefilled(), mm_features=[Named(identifier="picture")])
    refusal(prefilled(lora_request=Named(lora_name="poet")))
    params = prefilled()
    params[KEY]["fingerprint"] = bytes(32).hex()
    refusal(params)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": None},
        {"handle": "zz"},
        {"handle": 7},
        {"handle": "00"},
        {"tokens": -1},
        {"tokens": 0},
        {"tokens": True},
        {"tokens": 1 << 40},
        {"tokens": "70"},
        {"fingerprint": None},
        {"sources": []},
        {"sources": "tcp://127.0.0.1:1"},
        {"sources": [["tcp://127.0.0.1:1"]]},
        {"sources": [["tcp://127.0.0.1:1", 0, 0]]},
        {"sources": [["tcp://127.0.0.1:1", -1, 3]]},
        {"sources": [[5, 0, 3]]},
        {"sources": [["x" * 600, 0, 3]]},
        {"sources": [["tcp://127.0.0.1:1", 0, 3]] * 2000},
    ],
)
def test_parameters_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    params = prefilled()
    params[KEY].update(changes)
    refusal(params)


def test_parameters_that_are_not_ours_are_refused() -> None:
    refusal({"do_remote_prefill": True})
    refusal({"do_remote_prefill": True, KEY: [1]})
    refusal({"do_remote_prefill": True, KEY: "x"})


def test_an_aborted_request_leaves_nothing_behind() -> None:
    made = side(consumer=True)
    request = FakeRequest(kv_transfer_params=prefilled())
    made.matched(request, 0)
    request.status = Ended.FINISHED_ABORTED
    assert made.finished(request, []) == (False, None)
    assert not made._found


# ---------------------------------------------------------------------------------- handles, settings, names, counts


def test_handles_differ_and_end_in_the_tokens_digest() -> None:
    first, second = new_handle(PROMPT), new_handle(PROMPT)
    assert first != second
    assert first[8:] == second[8:] == digest(PROMPT)
    assert digest(PROMPT) != digest(PROMPT[:-1])
    assert digest([1, 256]) != digest([256, 1])


@pytest.mark.parametrize(
    "extra",
    [{"bugdet": 0.3}, {"budget": 0}, {"budget": "int4"}, {"budget": True}, {"loads": 0}, {"load_timeout": -1}, {"security": "x"}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(skv.SpectrumKVError):
        Settings.parse(extra)


def test_ranks_listen_side_by_side() -> None:
    assert Settings.parse({}).listen_on(3) == "tcp://127.0.0.1:0"
    assert Settings.parse({"listen": "tcp://10.0.0.1:5600"}).listen_on(3) == "tcp://10.0.0.1:5603"
    assert Settings.parse({"listen": "unix://@kv"}).listen_on(0) == "unix://@kv"
    assert Settings.parse({"listen": "unix://@kv"}).listen_on(2) == "unix://@kv.2"


def test_a_clients_parameters_cannot_name_just_any_address(tmp_path: Path) -> None:
    open_ = Settings.parse({})
    assert open_.may_pull_from("tcp://127.0.0.1:5600")
    assert not open_.may_pull_from("tcp://169.254.169.254:80")
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef\n")
    secured = Settings.parse({"psk_file": str(key), "security": "tls_psk"})
    assert secured.may_pull_from("tcp://10.1.2.3:5600")
    assert secured.endpoint_options()["tls_psk"] == b"0123456789abcdef"
    some = Settings.parse({"peers": ["tcp://10.0.*"]})
    assert some.may_pull_from("tcp://10.0.7.1:9")
    assert not some.may_pull_from("tcp://10.1.7.1:9")


def test_the_fingerprint_follows_weights_and_configuration(tmp_path: Path) -> None:
    def made(weights: bytes, **config: Any) -> bytes:
        (tmp_path / "model.safetensors").write_bytes(weights)
        return fingerprint_of(str(tmp_path), None, config)

    body = bytes(300_000)
    first = made(body, hidden_size=576)
    assert made(body, hidden_size=576, dtype="float16", _name_or_path="elsewhere") == first
    assert made(body, hidden_size=577) != first
    assert made(body + b"x", hidden_size=576) != first
    assert made(bytes(150_000) + b"\1" * 150_000, hidden_size=576) != first
    assert fingerprint_of("org/model", "main", {}) != fingerprint_of("org/model", "v2", {})


def test_counts_merge_and_start_again() -> None:
    tally = Tally()
    tally.count("loaded", 2)
    tally.time("load_seconds", 0.25)
    first = tally.take()
    assert first == {"loaded": 2, "load_seconds": [0.25]}
    assert tally.take() == {}
    merged = merge(first, {"loaded": 1, "load_seconds": [0.75], "encoded_bytes": 30, "encoded_raw_bytes": 100})
    assert summary(merged) == {
        "loaded": 3, "load_seconds_mean": 0.5, "load_seconds_p90": 0.25, "encoded_bytes": 30, "encoded_raw_bytes": 100,
        "ratio": 0.3,
    }  # fmt: skip
