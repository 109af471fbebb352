// SPDX-License-Identifier: Apache-2.0
//! The prefill side: listens, and sends one encoded cache to whoever connects. See the example `decode`.
//!
//! `cargo run --example prefill [URI]`, e.g. `tcp://127.0.0.1:7411`; prints the URI that it listens on.

use spectrumkv::{CacheBuilder, DType, Endpoint, Engine, Half, Plan, PlanKey, Result, Strides, f16};
use std::time::Duration;

const TOKENS: usize = 2048;
const HEADS: usize = 8;
const DIM: usize = 128;

fn main() -> Result<()> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:0".into());
    let k: Vec<f16> = (0..TOKENS * HEADS * DIM).map(|i| f16::from_f32((i as f32 * 0.1).sin())).collect();
    let v: Vec<f16> = k.iter().map(|x| -*x).collect();
    let rows = Strides::token_major(HEADS, DIM);
    let view = CacheBuilder::new(1)?.tokens(0, 0, TOKENS)?.layer(0, HEADS, DIM, DIM, DType::F16)?;
    let source = view.plane(0, Half::K, &k, rows)?.plane(0, Half::V, &v, rows)?.build()?;

    let endpoint = Endpoint::new()?;
    println!("listening on {}", endpoint.listen(&uri)?);
    let engine = Engine::cpu()?;
    let mut plan = Plan::new(&engine)?;
    plan.set(PlanKey::UNPROVEN, 1)?; // synthetic tensors; real models: queries or a profile
    plan.set_budget(0.3)?;
    plan.solve(&source, None)?;
    let payload = engine.encode(&source, &plan)?;

    let conn = endpoint.accept(Duration::from_secs(60))?;
    let request = conn.send(1, &payload, Duration::from_secs(60))?;
    request.result(Duration::from_secs(60))?;
    let first = k[HEADS * DIM];
    println!("sent {} bytes, {:.3} of raw; K of token 1 begins {first:.4}", payload.size()?, payload.receipt()?.ratio);
    Ok(())
}
