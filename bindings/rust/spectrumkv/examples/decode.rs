// SPDX-License-Identifier: Apache-2.0
//! The decode side: connects, looks at the offer, receives it and decodes it into its own layout (head-major, f32).
//!
//! `cargo run --example decode URI`, the URI that the example `prefill` printed.

use spectrumkv::{CacheBuilder, DType, Deadline, Endpoint, Engine, Half, Result, Segment, Strides};
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

    // Payload layer i goes to cache layer i, each with the tokens and heads that it says.
    let segments = (0..payload.layers()?).map(|l| payload.segment(l)).collect::<Result<Vec<_>>>()?;
    let plane = |s: &Segment, dim| vec![0f32; s.tokens * s.heads * dim];
    let mut memory: Vec<_> = segments.iter().map(|s| (plane(s, s.k_dim), plane(s, s.v_dim))).collect();
    let mut view = CacheBuilder::new(segments.len())?;
    for (l, (s, (k, v))) in segments.iter().zip(&mut memory).enumerate() {
        view = view.tokens(l, s.first_position, s.tokens)?.layer(l, s.heads, s.k_dim, s.v_dim, DType::F32)?;
        view = view.plane_mut(l, Half::K, k, Strides::head_major(s.tokens, s.k_dim))?;
        if s.v_dim > 0 {
            view = view.plane_mut(l, Half::V, v, Strides::head_major(s.tokens, s.v_dim))?;
        }
    }
    let (fingerprint, _request) = payload.identity()?;
    let mut target = view.identity(Some(&fingerprint), None)?.build_mut()?;
    Engine::cpu()?.decode(&payload, &mut target)?;
    drop(target);
    let s = &segments[0];
    println!(
        "decoded {} layers of {} tokens; K of token 1 begins {:.4}",
        segments.len(),
        s.tokens,
        memory[0].0[s.k_dim]
    );
    Ok(())
}
