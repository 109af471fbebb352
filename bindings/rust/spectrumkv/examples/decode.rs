// SPDX-License-Identifier: Apache-2.0
//! The decode side: connects, looks at the offer, receives it and decodes it into its own layout (head-major, f32).
//!
//! `cargo run --example decode URI`, the URI that the example `prefill` printed.

use spectrumkv::{CacheBuilder, DType, Deadline, Endpoint, Engine, Half, Result, Strides};
use std::time::Duration;

fn main() -> Result<()> {
    let Some(uri) = std::env::args().nth(1) else {
        eprintln!("usage: decode URI");
        std::process::exit(2);
    };
    let deadline = Deadline::after(Duration::from_secs(60))?;
    let endpoint = Endpoint::new()?;
    let conn = endpoint.connect(&uri, deadline)?;
    let request = conn.recv_offer(deadline)?;
    request.result(deadline)?;
    let offer = request.offer()?;
    println!("offer {}: {} bytes, {} layers", offer.key, offer.bytes, offer.layers);
    request.accept(deadline)?;
    request.result(deadline)?;
    let payload = request.payload()?;

    let s = payload.segment(0)?;
    let (mut k, mut v) = (vec![0f32; s.tokens * s.heads * s.k_dim], vec![0f32; s.tokens * s.heads * s.v_dim]);
    let view = CacheBuilder::new(1)?.tokens(0, s.first_position, s.tokens)?;
    let view = view.layer(0, s.heads, s.k_dim, s.v_dim, DType::F32)?;
    let mut target = view
        .plane_mut(0, Half::K, &mut k, Strides::head_major(s.tokens, s.k_dim))?
        .plane_mut(0, Half::V, &mut v, Strides::head_major(s.tokens, s.v_dim))?
        .build_mut()?;
    Engine::cpu()?.decode(&payload, &mut target)?;
    drop(target);
    let want = (s.heads * s.k_dim) as f32 * 0.1; // token 1, head 0, channel 0, as prefill computed it
    println!("decoded {} tokens; k {:.4} for {:.4}", s.tokens, k[s.k_dim], want.sin());
    Ok(())
}
