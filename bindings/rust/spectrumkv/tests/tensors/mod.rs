// SPDX-License-Identifier: Apache-2.0
//! Synthetic tensors and the views of them that the tests share.
#![allow(dead_code)]

use spectrumkv::*;

pub const LAYERS: usize = 2;
pub const TOKENS: usize = 320;
pub const HEADS: usize = 2;
pub const DIM: usize = 64;

/// Deterministic values about as large as keys and values are.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (next() + next() + next() - 1.5) * 2.0).collect()
}

pub fn halves(seed: u64) -> Vec<f16> {
    values(TOKENS * HEADS * DIM, seed).into_iter().map(f16::from_f32).collect()
}

/// K and V of each layer.
pub fn layers() -> Vec<[Vec<f16>; 2]> {
    (0..LAYERS as u64).map(|l| [halves(2 * l + 1), halves(2 * l + 2)]).collect()
}

pub fn zeros() -> Vec<[Vec<f16>; 2]> {
    (0..LAYERS).map(|_| [vec![f16::ZERO; TOKENS * HEADS * DIM], vec![f16::ZERO; TOKENS * HEADS * DIM]]).collect()
}

pub fn builder<'m>() -> CacheBuilder<'m> {
    CacheBuilder::new(LAYERS)
        .and_then(|b| b.tokens(Layer::ALL, 0, TOKENS))
        .and_then(|b| b.layer(Layer::ALL, HEADS, DIM, DIM, DType::F16))
        .expect("a builder")
}

pub fn source(memory: &[[Vec<f16>; 2]]) -> Cache<'_> {
    let rows = Strides::token_major(HEADS, DIM);
    let mut b = builder();
    for (l, [k, v]) in memory.iter().enumerate() {
        b = b.plane(l, Half::K, k, rows).and_then(|b| b.plane(l, Half::V, v, rows)).expect("planes");
    }
    b.build().expect("a source")
}

pub fn target(memory: &mut [[Vec<f16>; 2]]) -> CacheMut<'_> {
    let rows = Strides::token_major(HEADS, DIM);
    let mut b = builder();
    for (l, [k, v]) in memory.iter_mut().enumerate() {
        b = b.plane_mut(l, Half::K, k, rows).and_then(|b| b.plane_mut(l, Half::V, v, rows)).expect("planes");
    }
    b.build_mut().expect("a target")
}

pub fn engine() -> Engine {
    let mut engine = Engine::cpu().expect("an engine");
    engine.set(EngineKey::THREADS, 1).expect("one thread");
    engine
}

pub fn plan(engine: &Engine, cache: &Cache<'_>, budget: f64) -> Plan {
    let mut plan = Plan::new(engine).expect("a plan");
    plan.set(PlanKey::UNPROVEN, 1).expect("synthetic tensors have no verdict");
    plan.set_budget(budget).and_then(|()| plan.solve(cache, None)).expect("solved");
    plan
}

pub fn payload() -> Payload<'static> {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let plan = plan(&engine, &cache, 0.4);
    engine.encode(&cache, &plan).expect("encoded")
}

/// Root of the mean squared difference: what precision is spent on. The largest one may stay where it was.
pub fn rms(a: &[[Vec<f16>; 2]], b: &[[Vec<f16>; 2]]) -> f32 {
    let pairs = a.iter().flatten().flatten().zip(b.iter().flatten().flatten());
    let (sum, n) = pairs.fold((0.0, 0.0), |(sum, n), (x, y)| (sum + (x.to_f32() - y.to_f32()).powi(2), n + 1.0));
    (sum / n).sqrt()
}

pub fn status<T>(result: Result<T>) -> Status {
    match result {
        Ok(_) => Status::OK,
        Err(error) => {
            assert!(!error.message().is_empty(), "{error:?} has no message");
            error.status()
        }
    }
}
