# SPDX-License-Identifier: Apache-2.0
"""Scores (how much each token matters) and plans (which tier every row gets)."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from ctypes import byref, c_double, c_float, c_uint8, c_uint64, c_void_p
from typing import TYPE_CHECKING

from spectrumkv._abi import PLAN, SCORES, library
from spectrumkv._handle import Handle
from spectrumkv.buffers import Buffer, describe, to_dtype
from spectrumkv.constants import Code, DType, Half, Pack, PlanKey, Status, Tier, Transform
from spectrumkv.errors import ArgumentError

if TYPE_CHECKING:
    from spectrumkv.cache import Cache
    from spectrumkv.engine import Engine
    from spectrumkv.payload import Payload
    from spectrumkv.profile import Profile

STRATEGIES = (
    "error-aware", "raw", "uniform-2", "uniform-4", "uniform-6", "uniform-8",
    "greedy", "sink-protect", "balanced", "random", "adaptive", "pdtrim", "sws",
)  # fmt: skip
"""Names that `Plan` takes. Those from ``"greedy"`` on are the paper's, with the paper's code; all but random and pdtrim take
an importance: ``"greedy:key-norm"``, ``:position``, ``:recency``, ``:value-aware``, ``:attention``; numbers follow it or
pdtrim: ``"sws:attention:decay=0.005"``, ``"pdtrim:first=0.3"``."""


class Scores(Handle):
    """How much an error in each token's K or V row costs.

    Three sources, the first given wins per layer and half: the caller's weights, the last queries, keys and values.
    """

    def __init__(self) -> None:
        lib = library()
        handle = SCORES()
        lib.call("skv_scores_create", byref(handle))
        super().__init__(handle, lib.dll.skv_scores_destroy)
        self._queries: dict[int, Buffer] = {}

    def set_weights(self, layer: int, half: Half, weights: Iterable[float]) -> None:
        """The caller's weights, one a token, finite and >= 0, copied. ``layer`` may be `ALL`.

        The cost of a tier is weight x the row's mean squared error in that tier.
        """
        values = array("f", weights)
        data = (c_float * len(values)).from_buffer(values) if len(values) else (c_float * 0)()
        with self._use() as scores:
            library().call("skv_scores_set_weights", scores, layer, half, data, len(values))

    def set_queries(
        self,
        layer: int,
        queries: object,
        *,
        layout: str = "qhd",
        dtype: DType | str | None = None,
        scale: float = 0.0,
        window: int = 0,
    ) -> None:
        """The queries, after RoPE, of the last tokens of a layer.

        Args:
            queries: array of float16, bfloat16 or float32; query heads are a multiple of the layer's kv-heads. It is kept
                alive, and read by `Engine.score` only.
            layout: order of its axes: ``q`` query (the last tokens, oldest first), ``h`` head, ``d`` channel.
            dtype: overrides the array's element type (bfloat16 kept in uint16).
            scale: the softmax scale; 0 for 1/sqrt(k_dim).
            window: sliding-window length in tokens, 0 for none.
        """
        if sorted(layout) != ["d", "h", "q"]:
            raise ArgumentError(Status.E_ARGUMENT, f"layout {layout!r}: wanted an order of the letters q, h and d")
        memory = describe(queries, on_device=True)
        if dtype is not None:
            memory = memory.as_dtype(to_dtype(dtype))
        if len(memory.shape) != 3:
            raise ArgumentError(Status.E_ARGUMENT, f"queries of shape {memory.shape}: wanted 3 axes, {layout!r}")
        size = dict(zip(layout, memory.shape))
        step = dict(zip(layout, memory.strides))
        with self._use() as scores:
            library().call(
                "skv_scores_set_queries",
                scores,
                layer,
                c_void_p(memory.pointer),
                memory.nbytes,
                memory.kv_dtype,
                size["q"],
                size["h"],
                step["q"],
                step["h"],
                step["d"],
                scale,
                window,
            )
        self._queries[layer] = memory

    def get(self, layer: int, half: Half, tokens: int) -> list[float]:
        """The weights of one layer and half, in token order. Raises `StateError` before `Engine.score`."""
        out = (c_float * tokens)()
        with self._use() as scores:
            library().call("skv_scores_get", scores, layer, half, out, tokens)
        return list(out)


class Plan(Handle):
    """A tier for every (layer, K or V, token), and the exact byte count it implies.

    Args:
        engine: whose device measures the rows.
        budget: bytes of the payload as a fraction of the cache's 16-bit size, everything counted.
        budget_bytes: the same in bytes; give one of the two (strategies ``raw`` and ``uniform-N`` need none).
        strategy: one of `STRATEGIES`; the default minimises the error under the budget.
        sinks: leading tokens of the sequence kept RAW (default 4, when queries were scored 1).
        chunk: tokens that share channel means and balances, 32 … 256 in steps of 32 (default 256).
        code: quantizer.
        k_transforms, v_transforms: see `Transform`.
        k_tiers, v_tiers: tiers the plan may use.
        raw_dtype: how RAW rows of a float32 cache are sent.
        profile: what is known of the model; copied.
        pack: whether `Engine.encode` packs the payload, for slow links; the budget then counts packed bytes.
        link_mbps: expected link speed in Mb/s, which `Pack.AUTO` decides by.
        unproven: allow tiers below 8 bits without a verdict. Else `solve` wants a profile with one, or scores with queries.
        late_tier: how low layers of `Conn.send_layers` may be cut that would miss the deadline: `Tier.SIX_BIT` or `Tier.FOUR_BIT`;
            by default they are not.

    Raises:
        ArgumentError: an unknown strategy, or a value out of its range.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        budget: float | None = None,
        budget_bytes: int | None = None,
        strategy: str | None = None,
        sinks: int | None = None,
        chunk: int | None = None,
        code: Code | None = None,
        k_transforms: Transform | None = None,
        v_transforms: Transform | None = None,
        k_tiers: Iterable[Tier] | None = None,
        v_tiers: Iterable[Tier] | None = None,
        raw_dtype: DType | str | None = None,
        profile: Profile | None = None,
        pack: Pack | None = None,
        link_mbps: int | None = None,
        unproven: bool = False,
        late_tier: Tier | None = None,
    ) -> None:
        if budget is not None and budget_bytes is not None:
            raise ArgumentError(Status.E_ARGUMENT, "budget and budget_bytes are both given: wanted one")
        lib = library()
        handle = PLAN()
        with engine._use() as device:
            lib.call("skv_plan_create", device, byref(handle))
        self._device = engine.device
        super().__init__(handle, lib.dll.skv_plan_destroy)
        if strategy is not None:
            self.set_strategy(strategy)
        if budget is not None:
            self.set_budget(budget)
        if budget_bytes is not None:
            self.set_budget_bytes(budget_bytes)
        options = {
            PlanKey.SINKS: sinks,
            PlanKey.CHUNK: chunk,
            PlanKey.CODE: code,
            PlanKey.K_TRANSFORMS: k_transforms,
            PlanKey.V_TRANSFORMS: v_transforms,
            PlanKey.K_TIERS: _tier_set(k_tiers),
            PlanKey.V_TIERS: _tier_set(v_tiers),
            PlanKey.RAW_DTYPE: None if raw_dtype is None else to_dtype(raw_dtype),
            PlanKey.PACK: pack,
            PlanKey.LINK_MBPS: link_mbps,
            PlanKey.UNPROVEN: 1 if unproven else None,
            PlanKey.LATE_TIER: late_tier,
        }
        for key, value in options.items():
            if value is not None:
                self.set(key, value)
        if profile is not None:
            self.set_profile(profile)

    def set_profile(self, profile: Profile) -> None:
        """What is known of the model; copied."""
        with self._use() as plan, profile._use() as known:
            library().call("skv_plan_set_profile", plan, known)

    def cost(self, layer: int, half: Half) -> float:
        """Sum of weight x squared error over a layer's K or V under the present tiers; nats of KL with a calibrated profile.

        Raises `StateError` unless solved with the strategy error-aware.
        """
        out = c_double()
        with self._use() as plan:
            library().call("skv_plan_cost", plan, layer, half, byref(out))
        return out.value

    def set(self, key: PlanKey, value: int) -> None:
        """Sets an option; before `solve`."""
        with self._use() as plan:
            library().call("skv_plan_set", plan, key, value)

    def set_budget(self, fraction: float) -> None:
        """The budget as a fraction of the cache's 16-bit size."""
        with self._use() as plan:
            library().call("skv_plan_set_budget", plan, fraction)

    def set_budget_bytes(self, size: int) -> None:
        """The budget in bytes."""
        with self._use() as plan:
            library().call("skv_plan_set_budget_bytes", plan, size)

    def set_strategy(self, name: str) -> None:
        """The strategy by name, one of `STRATEGIES`."""
        with self._use() as plan:
            library().call("skv_plan_set_strategy", plan, name.encode())

    def solve(self, cache: Cache, scores: Scores | None = None) -> Plan:
        """Chooses a tier for every row; never exceeds the budget. Returns itself.

        Args:
            scores: None scores keys and values here when the strategy needs it.

        Raises:
            BudgetError: the budget is below the floor, which the message names; or (status E_PERMITTED) there is no verdict
                on tiers below 8 bits, or a no, or tokens would be dropped that cannot be masked.
            StateError: no budget set.
            ArgumentError: the view; a transform that does not divide the dim.
            IdentityError: scores of another shape.

        For a CUDA engine's plan the rows are read on the legacy default stream: other streams' writes must have ended.
        """
        need_device(self._device, cache)
        with self._use() as plan, cache._use() as view:
            if scores is None:
                library().call("skv_plan_solve", plan, view, None)
            else:
                with scores._use() as weights:
                    library().call("skv_plan_solve", plan, view, weights)
        return self

    def upgrade(self, base: Payload, cache: Cache, scores: Scores | None = None) -> Plan:
        """Chooses which rows of a payload of this cache to raise, and how far, for `Engine.encode_upgrade`. Returns itself.

        The budget is that of the upgrade alone, spent where an error costs most; without one no row is raised, and
        `set_tiers` says which are (to the payload's tiers or above). Strategies ``raw`` and ``uniform-N`` raise every row to that tier.

        Raises:
            BudgetError: the budget is below that of an empty upgrade, which the message names; or the code's tiers are not nested.
            IdentityError: the payload is not this cache's.
            StateError: the payload is incomplete, or itself an upgrade.
        """
        need_device(self._device, cache)
        with self._use() as plan, base._use() as payload, cache._use() as view:
            if scores is None:
                library().call("skv_plan_upgrade", plan, payload, view, None)
            else:
                with scores._use() as weights:
                    library().call("skv_plan_upgrade", plan, payload, view, weights)
        return self

    def truncate(self, payload: Payload, scores: Scores | None = None) -> Plan:
        """Chooses which rows of a payload to cut, without its cache, for `Payload.truncate`. Returns itself.

        Rows go to the plan's permitted tiers (``k_tiers``, ``v_tiers``; keys never below 4 bits) and, with a budget, to that as the
        whole payload's, least costly planes first; strategies ``uniform-N`` cut every row above that tier to it. Tiers below 8
        bits need a verdict: a profile's, the payload's own rows there, or ``unproven=True``.

        Raises:
            BudgetError: below the floor, which the message names; no verdict; or the code's tiers are not nested.
            IdentityError: scores or profile of another shape or model.
        """
        with self._use() as plan, payload._use() as whole:
            if scores is None:
                library().call("skv_plan_truncate", plan, whole, None)
            else:
                with scores._use() as weights:
                    library().call("skv_plan_truncate", plan, whole, weights)
        return self

    @property
    def nbytes(self) -> int:
        """Exact bytes of what the solved plan gives: a payload, or an upgrade. Raises `StateError` before `solve`."""
        out = c_uint64()
        with self._use() as plan:
            library().call("skv_plan_bytes", plan, byref(out))
        return out.value

    def tiers(self, layer: int, half: Half, tokens: int) -> bytes:
        """The tiers of a layer's K or V, one byte (a `Tier`) a token."""
        out = (c_uint8 * tokens)()
        with self._use() as plan:
            library().call("skv_plan_get_tiers", plan, layer, half, out, tokens)
        return bytes(out)

    def set_tiers(self, layer: int, half: Half, tiers: Iterable[int]) -> None:
        """Replaces the tiers of a layer's K or V of a solved plan. `nbytes` follows; the budget is not checked."""
        values = bytes(tiers)
        data = (c_uint8 * len(values)).from_buffer_copy(values)
        with self._use() as plan:
            library().call("skv_plan_set_tiers", plan, layer, half, data, len(values))


def need_device(engine: int, cache: Cache) -> None:
    """Raises `ArgumentError` for a cache that the engine's device does not hold: a CPU engine would read its addresses."""
    if cache.device != engine and (engine < 0 or cache.device >= 0):
        raise ArgumentError(
            Status.E_ARGUMENT,
            f"a cache in the memory of device {cache.device} (-1: host) for an engine of device {engine}",
        )


def _tier_set(tiers: Iterable[Tier] | None) -> int | None:
    if tiers is None:
        return None
    bits = 0
    for tier in tiers:
        bits |= 1 << tier
    return bits
