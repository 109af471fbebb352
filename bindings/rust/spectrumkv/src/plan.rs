// SPDX-License-Identifier: Apache-2.0
//! The plan: a tier for every (layer, K or V, token), and the exact byte count it implies.

use crate::error::{c_i32, c_text, call};
use crate::{Cache, Engine, Half, Payload, PlanKey, Profile, Result, Scores, Tier};
use core::ptr::{NonNull, null, null_mut};
use spectrumkv_sys as sys;

/// How many bits each row is sent with.
#[derive(Debug)]
pub struct Plan {
    raw: NonNull<sys::skv_plan>,
}

// SAFETY: any thread may use any handle, one call at a time. Not Sync.
unsafe impl Send for Plan {}

impl Plan {
    /// A plan for the engine's device, with default options and the strategy "error-aware". It may outlive the engine.
    ///
    /// # Errors
    /// `NO_MEMORY`.
    pub fn new(engine: &Engine) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: the engine lives; `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_plan_create(engine.as_ptr(), &mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle") })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_plan {
        self.raw.as_ptr()
    }

    /// Sets an option, before solving.
    ///
    /// # Errors
    /// `KEY`, `RANGE`.
    pub fn set(&mut self, key: PlanKey, value: i64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_plan_set(self.as_ptr(), key.0, value, err) }).map(drop)
    }

    /// The budget as a fraction of [`Cache::raw_bytes`]. Headers, maps, scales, channel vectors and digests count.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn set_budget(&mut self, fraction: f64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_plan_set_budget(self.as_ptr(), fraction, err) }).map(drop)
    }

    /// The budget in bytes.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn set_budget_bytes(&mut self, bytes: u64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_plan_set_budget_bytes(self.as_ptr(), bytes, err) }).map(drop)
    }

    /// The strategy by name: "error-aware", "raw", "uniform-2" … "uniform-8", the paper's "greedy" and others (see the header).
    ///
    /// # Errors
    /// `KEY`, `ARGUMENT` (a NUL in it).
    pub fn set_strategy(&mut self, name: &str) -> Result<()> {
        let name = c_text(name, "strategy")?;
        // SAFETY: NUL-terminated.
        call(|err| unsafe { sys::skv_plan_set_strategy(self.as_ptr(), name.as_ptr(), err) }).map(drop)
    }

    /// What is known of the model: multipliers for the costs, and the verdict on low tiers. Copied; `None` forgets it.
    ///
    /// # Errors
    /// None in practice.
    pub fn set_profile(&mut self, profile: Option<&Profile>) -> Result<()> {
        let profile = profile.map_or(null(), |p| p.as_ptr().cast_const());
        // SAFETY: the handles live; NULL is allowed.
        call(|err| unsafe { sys::skv_plan_set_profile(self.as_ptr(), profile, err) }).map(drop)
    }

    /// Sum of weight x squared error over a layer's K or V rows under the present tiers: what "error-aware" minimises. In
    /// nats of KL with a calibrated profile.
    ///
    /// # Errors
    /// `STATE` (not solved, or another strategy), `RANGE`.
    pub fn cost(&self, layer: usize, half: Half) -> Result<f64> {
        let mut out = 0.0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_plan_cost(self.as_ptr(), c_i32(layer), half.0, &mut out, err) })?;
        Ok(out)
    }

    /// Chooses a tier for every row of the cache. Never exceeds the budget. Without scores, keys and values are scored here
    /// when the strategy needs it. Tiers below 8 bits need a verdict: a profile's, a logit probe's on the queries in the scores,
    /// or `PlanKey::UNPROVEN` 1.
    ///
    /// # Errors
    /// Those of the view and of scoring, `BUDGET` (names the floor), `STATE` (no budget set), `GEOMETRY`, `LAYOUT`, `MODEL`
    /// (profile of another model), `PERMITTED` (no verdict, or a no; or tokens would be dropped that cannot be masked).
    pub fn solve(&mut self, cache: &Cache<'_>, scores: Option<&Scores<'_>>) -> Result<()> {
        let scores = scores.map_or(null(), |s| s.as_ptr().cast_const());
        // SAFETY: the handles live; NULL scores are allowed.
        call(|err| unsafe { sys::skv_plan_solve(self.as_ptr(), cache.as_ptr(), scores, err) }).map(drop)
    }

    /// Chooses which rows of a payload of this cache to raise, and how far, for [`Engine::encode_upgrade`]. The budget is that of
    /// the upgrade alone; without one no row is raised, to be followed by [`Plan::set_tiers`]. Strategies "raw" and "uniform-N" raise
    /// every row to that tier.
    ///
    /// # Errors
    /// Those of the view and of scoring, `BUDGET`, `ARGUMENT` (another strategy), `STATE` (payload incomplete, or an upgrade),
    /// `LAYOUT`, `MODEL`, `REQUEST` (not this cache's payload), `PERMITTED` (the paper's code), `CHECKSUM`.
    pub fn upgrade(&mut self, base: &Payload<'_>, cache: &Cache<'_>, scores: Option<&Scores<'_>>) -> Result<()> {
        let scores = scores.map_or(null(), |s| s.as_ptr().cast_const());
        let (base, cache) = (base.as_ptr(), cache.as_ptr());
        // SAFETY: as in solve.
        call(|err| unsafe { sys::skv_plan_upgrade(self.as_ptr(), base, cache, scores, err) }).map(drop)
    }

    /// Chooses which rows of a payload to cut, without its cache, for [`Payload::truncate`]: to the permitted tiers
    /// (`PlanKey::K_TIERS`, `V_TIERS`; keys never below 4 bits), and to the budget if there is one, least costly planes first.
    /// Tiers below 8 bits need a verdict: a profile's, the payload's own rows there, or `PlanKey::UNPROVEN` 1.
    ///
    /// # Errors
    /// `BUDGET` (names the floor), `ARGUMENT` (another strategy), `PERMITTED` (no verdict, or the paper's code), `STATE`, `LAYOUT`
    /// (scores), `MODEL` (profile), `CHECKSUM`.
    pub fn truncate(&mut self, payload: &Payload<'_>, scores: Option<&Scores<'_>>) -> Result<()> {
        let scores = scores.map_or(null(), |s| s.as_ptr().cast_const());
        // SAFETY: as in solve.
        call(|err| unsafe { sys::skv_plan_truncate(self.as_ptr(), payload.as_ptr(), scores, err) }).map(drop)
    }

    /// Exact bytes of what the solved plan gives: a payload, or an upgrade.
    ///
    /// # Errors
    /// `STATE`.
    pub fn bytes(&self) -> Result<usize> {
        let mut out = 0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_plan_bytes(self.as_ptr(), &mut out, err) })?;
        Ok(usize::try_from(out).expect("a payload that fits in memory"))
    }

    /// The tiers of a layer's K or V, one a token.
    ///
    /// # Errors
    /// `STATE`, `RANGE` (other than the layer's tokens).
    pub fn tiers(&self, layer: usize, half: Half, tokens: usize) -> Result<Vec<Tier>> {
        let mut out = vec![0; tokens];
        // SAFETY: the vector is as long as said.
        call(|err| unsafe {
            sys::skv_plan_get_tiers(self.as_ptr(), c_i32(layer), half.0, out.as_mut_ptr(), out.len(), err)
        })?;
        Ok(out.into_iter().map(|tier| Tier(i32::from(tier))).collect())
    }

    /// Replaces the tiers of a layer's K or V of a solved plan. The byte count follows; the budget is not checked.
    ///
    /// # Errors
    /// `STATE`, `RANGE`, `PERMITTED` (`DROP` for a cache that cannot mask).
    pub fn set_tiers(&mut self, layer: usize, half: Half, tiers: &[Tier]) -> Result<()> {
        let bytes: Vec<u8> = tiers.iter().map(|tier| u8::try_from(tier.0).unwrap_or(u8::MAX)).collect();
        // SAFETY: the vector is as long as said.
        call(|err| unsafe {
            sys::skv_plan_set_tiers(self.as_ptr(), c_i32(layer), half.0, bytes.as_ptr(), bytes.len(), err)
        })
        .map(drop)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_plan_destroy(self.as_ptr()) }
    }
}
