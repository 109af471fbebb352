# SPDX-License-Identifier: Apache-2.0
"""Profiles (what is known of one model) and the needle probe."""

from __future__ import annotations

from ctypes import byref, c_char_p, c_int32, c_size_t, create_string_buffer
from dataclasses import dataclass
from typing import Any

from spectrumkv._abi import NEEDLE_PROBE, PROFILE, library
from spectrumkv._handle import Handle
from spectrumkv.buffers import id_bytes
from spectrumkv.constants import ALL, FINGERPRINT_BYTES, Code, Half, Probe, Scored, Verdict


@dataclass(frozen=True)
class ProbeResult:
    """What a probe said, and of how many trials how many passed."""

    verdict: Verdict
    passed: int
    trials: int


class Profile(Handle):
    """What is known of one model: what errors in each layer's K and V cost, and whether tiers below 8 bits are safe.

    Args:
        fingerprint: 32 bytes (or hexadecimal) that name the model; plans accept only caches of the same.
        layers: of the model's caches.
        code: the quantizer that verdicts are about.
    """

    def __init__(self, fingerprint: bytes | str, layers: int, code: Code = Code.EMBEDDED) -> None:
        handle = PROFILE()
        library().call(
            "skv_profile_create", id_bytes(fingerprint, FINGERPRINT_BYTES, "fingerprint"), layers, code, byref(handle)
        )
        self._adopt(handle)

    def _adopt(self, handle: Any) -> None:
        Handle.__init__(self, handle, library().dll.skv_profile_destroy)

    @classmethod
    def open(cls, text: str | bytes) -> Profile:
        """Reads JSON as `save` writes it.

        Raises:
            PayloadError: malformed. VersionError: of another codec version. ChecksumError: edited or damaged.
        """
        raw = text.encode() if isinstance(text, str) else bytes(text)
        handle = PROFILE()
        library().call("skv_profile_open", raw, len(raw), byref(handle))
        profile = cls.__new__(cls)
        profile._adopt(handle)
        return profile

    def save(self) -> str:
        """JSON text."""
        size = c_size_t()
        with self._use() as profile:
            library().call("skv_profile_save", profile, None, 0, byref(size))
            buffer = create_string_buffer(size.value)
            library().call("skv_profile_save", profile, buffer, size.value, byref(size))
        return buffer.raw[: size.value].decode()

    def calibrate(self, layer: int, half: Half, scored: Scored, cost: float, kl: float) -> None:
        """Adds a trial: with only this layer's half at a low tier the mean KL was ``kl`` nats and `Plan.cost` said ``cost``."""
        with self._use() as profile:
            library().call("skv_profile_calibrate", profile, layer, half, scored, cost, kl)

    def set_verdict(self, probe: Probe, verdict: Verdict, passed: int = 0, trials: int = 0) -> None:
        """Records what a probe said."""
        with self._use() as profile:
            library().call("skv_profile_set_verdict", profile, probe, verdict, passed, trials)

    def verdict(self, probe: Probe) -> ProbeResult:
        """What a probe said."""
        return self._verdict(probe)

    @property
    def int4(self) -> Verdict:
        """The word that counts: NO if any probe said so, else YES if any did."""
        return self._verdict(ALL).verdict

    def _verdict(self, probe: int) -> ProbeResult:
        word, passed, trials = c_int32(), c_int32(), c_int32()
        with self._use() as profile:
            library().call("skv_profile_get_verdict", profile, probe, byref(word), byref(passed), byref(trials))
        return ProbeResult(Verdict(word.value), passed.value, trials.value)


class NeedleProbe(Handle):
    """The paper's probe: prompts with a number hidden in filler text and asked for at their end.

    For each of `NEEDLE_TRIALS` trials: evaluate `prompt`, move the cache at the budget to be proven, let the model continue for
    a dozen tokens, give the text to `answer`; then `record`.

    Args:
        words: length of a prompt, 64 … 1 000 000 words.
    """

    def __init__(self, words: int) -> None:
        handle = NEEDLE_PROBE()
        library().call("skv_needle_probe_create", words, byref(handle))
        super().__init__(handle, library().dll.skv_needle_probe_destroy)

    def prompt(self, trial: int) -> str:
        """A trial's prompt."""
        out = c_char_p()
        with self._use() as probe:
            library().call("skv_needle_probe_prompt", probe, trial, byref(out))
            return (out.value or b"").decode()

    def answer(self, trial: int, text: str) -> bool:
        """Whether the model's answer holds the number. Raises `StateError` when answered already."""
        raw = text.encode()
        found = c_int32()
        with self._use() as probe:
            library().call("skv_needle_probe_answer", probe, trial, raw, len(raw), byref(found))
        return bool(found.value)

    def record(self, profile: Profile) -> None:
        """Writes the verdict into a profile. Raises `StateError` while an answer is missing."""
        with self._use() as probe, profile._use() as known:
            library().call("skv_needle_probe_verdict", probe, known)
