// SPDX-License-Identifier: Apache-2.0
//! What is known of a model, and the needle probe that finds out.

use crate::error::{c_i32, call, ready};
use crate::{Code, Fingerprint, Half, Probe, Result, Scored, Verdict};
use core::ffi::CStr;
use core::ptr::{NonNull, null_mut};
use spectrumkv_sys as sys;

/// Prompts of a [`NeedleProbe`].
pub const NEEDLE_TRIALS: usize = sys::SKV_NEEDLE_TRIALS as usize;

/// What is known of one model: how much an error in each layer costs, and whether tiers below 8 bits are safe for it.
#[derive(Debug)]
pub struct Profile {
    raw: NonNull<sys::skv_profile>,
}

// SAFETY: any thread may use any handle, one call at a time. Not Sync.
unsafe impl Send for Profile {}

/// What a probe said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The word.
    pub verdict: Verdict,
    /// Trials that passed.
    pub passed: i32,
    /// Trials.
    pub trials: i32,
}

impl Profile {
    /// An empty profile of a model, its layers as in its caches, and the code that verdicts are about.
    ///
    /// # Errors
    /// `RANGE`, `UNAVAILABLE` (no library).
    pub fn new(fingerprint: &Fingerprint, layers: usize, code: Code) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: an array of the length that the function reads.
        call(|err| unsafe { sys::skv_profile_create(fingerprint.as_ptr(), c_i32(layers), code.0, &mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle") })
    }

    /// Reads JSON. Safe on untrusted text.
    ///
    /// # Errors
    /// `MALFORMED`, `VERSION` (another format or codec: probe again), `CHECKSUM` (edited or damaged).
    pub fn open(json: &str) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: the text is as long as said.
        call(|err| unsafe { sys::skv_profile_open(json.as_ptr().cast(), json.len(), &mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle") })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_profile {
        self.raw.as_ptr()
    }

    /// Writes JSON.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_json(&self) -> Result<String> {
        let mut size = 0;
        // SAFETY: without a buffer only the size is written.
        call(|err| unsafe { sys::skv_profile_save(self.as_ptr(), null_mut(), 0, &mut size, err) })?;
        let mut text = vec![0u8; size];
        // SAFETY: the buffer is as large as said.
        call(|err| unsafe {
            sys::skv_profile_save(self.as_ptr(), text.as_mut_ptr().cast(), text.len(), &mut size, err)
        })?;
        text.truncate(size);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Adds a calibration trial: with only this layer's half at a low tier the model's mean KL was `kl` nats, where
    /// [`crate::Plan::cost`] with this profile and scores of this kind was `cost`.
    ///
    /// # Errors
    /// `RANGE`, `NON_FINITE`.
    pub fn calibrate(&mut self, layer: usize, half: Half, scored: Scored, cost: f64, kl: f64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_profile_calibrate(self.as_ptr(), c_i32(layer), half.0, scored.0, cost, kl, err) })
            .map(drop)
    }

    /// Records what a probe said.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn set_verdict(&mut self, probe: Probe, said: Said) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe {
            sys::skv_profile_set_verdict(self.as_ptr(), probe.0, said.verdict.0, said.passed, said.trials, err)
        })
        .map(drop)
    }

    /// What a probe said; `None`: the word that counts.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn verdict(&self, probe: Option<Probe>) -> Result<Said> {
        let (mut verdict, mut passed, mut trials) = (0, 0, 0);
        let probe = probe.map_or(sys::SKV_ALL, |p| p.0);
        // SAFETY: the handle lives.
        call(|err| unsafe {
            sys::skv_profile_get_verdict(self.as_ptr(), probe, &mut verdict, &mut passed, &mut trials, err)
        })?;
        Ok(Said { verdict: Verdict(verdict), passed, trials })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_profile_destroy(self.as_ptr()) }
    }
}

/// The paper's probe: [`NEEDLE_TRIALS`] prompts with a number hidden in filler text and asked for at their end. Evaluate each,
/// move its cache through this library at the budget to be proven, let the model go on for a dozen tokens, hand the text back.
#[derive(Debug)]
pub struct NeedleProbe {
    raw: NonNull<sys::skv_needle_probe>,
}

// SAFETY: any thread may use any handle, one call at a time. Not Sync.
unsafe impl Send for NeedleProbe {}

impl NeedleProbe {
    /// Prompts of about so many words, 64 … 1,000,000.
    ///
    /// # Errors
    /// `RANGE`, `UNAVAILABLE` (no library).
    pub fn new(words: u32) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_needle_probe_create(words, &mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle") })
    }

    /// A trial's prompt.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn prompt(&self, trial: usize) -> Result<&str> {
        let mut out = core::ptr::null();
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_needle_probe_prompt(self.raw.as_ptr(), c_i32(trial), &mut out, err) })?;
        // SAFETY: UTF-8, NUL-terminated, owned by the probe.
        Ok(unsafe { CStr::from_ptr(out) }.to_str().unwrap_or("?"))
    }

    /// The model's answer; whether it holds the number.
    ///
    /// # Errors
    /// `RANGE`, `STATE` (already answered).
    pub fn answer(&mut self, trial: usize, text: &str) -> Result<bool> {
        let mut found = 0;
        // SAFETY: the text is as long as said.
        call(|err| unsafe {
            let trial = c_i32(trial);
            sys::skv_needle_probe_answer(self.raw.as_ptr(), trial, text.as_ptr().cast(), text.len(), &mut found, err)
        })?;
        Ok(found != 0)
    }

    /// Records the verdict in a profile.
    ///
    /// # Errors
    /// `STATE` (an answer is missing).
    pub fn verdict(&self, profile: &mut Profile) -> Result<()> {
        // SAFETY: the handles live.
        call(|err| unsafe { sys::skv_needle_probe_verdict(self.raw.as_ptr(), profile.as_ptr(), err) }).map(drop)
    }
}

impl Drop for NeedleProbe {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_needle_probe_destroy(self.raw.as_ptr()) }
    }
}
