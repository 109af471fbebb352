// SPDX-License-Identifier: Apache-2.0
//! Encodes a cache at several budgets, decodes it, and says what that cost and changed.
//!
//! `cargo run --example roundtrip [BUDGET ...]`

use spectrumkv::{CacheBuilder, DType, Engine, Half, Layer, Payload, Plan, PlanKey, Result, Strides, f16};

const LAYERS: usize = 4;
const TOKENS: usize = 1024;
const HEADS: usize = 4;
const DIM: usize = 64;

fn main() -> Result<()> {
    let budgets: Vec<f64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let budgets = if budgets.is_empty() { vec![0.5, 0.4, 0.3] } else { budgets };
    let count = TOKENS * HEADS * DIM;
    let wave = |i: usize| f16::from_f32((i as f32 * 0.37).sin() + (i % 101) as f32 / 100.0);
    let halves: Vec<Vec<f16>> = (0..2 * LAYERS).map(|h| (0..count).map(|i| wave(i + h * 7919)).collect()).collect();
    let rows = Strides::token_major(HEADS, DIM);

    let engine = Engine::cpu()?;
    println!("{}", engine.describe()?);
    let mut view = CacheBuilder::new(LAYERS)?.tokens(Layer::ALL, 0, TOKENS)?;
    view = view.layer(Layer::ALL, HEADS, DIM, DIM, DType::F16)?;
    for (i, half) in halves.iter().enumerate() {
        view = view.plane(i / 2, Half(i as i32 % 2), half, rows)?;
    }
    let source = view.build()?;
    for budget in budgets {
        let mut plan = Plan::new(&engine)?;
        plan.set(PlanKey::UNPROVEN, 1)?; // synthetic tensors; real models: queries or a profile
        plan.set_budget(budget)?;
        plan.solve(&source, None)?;
        let payload = engine.encode(&source, &plan)?;
        let travelled = payload.bytes()?.to_vec();

        let mut got = vec![vec![f16::ZERO; count]; 2 * LAYERS];
        let mut view = CacheBuilder::new(LAYERS)?.tokens(Layer::ALL, 0, TOKENS)?;
        view = view.layer(Layer::ALL, HEADS, DIM, DIM, DType::F16)?;
        for (i, half) in got.iter_mut().enumerate() {
            view = view.plane_mut(i / 2, Half(i as i32 % 2), half, rows)?;
        }
        engine.decode(&Payload::open(&travelled)?, &mut view.build_mut()?)?;
        let errors = halves.iter().flatten().zip(got.iter().flatten()).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2));
        let rms = (errors.sum::<f64>() / (count * 2 * LAYERS) as f64).sqrt();
        let receipt = payload.receipt()?;
        println!(
            "budget {budget:.2}: {} bytes, {:.4} of raw, RMS error {rms:.5}",
            receipt.payload_bytes, receipt.ratio
        );
    }
    Ok(())
}
