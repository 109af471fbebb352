// SPDX-License-Identifier: Apache-2.0
//! The interop program in Rust; see tests/interop/interop_test.py for what each of its commands does.

use sha2::{Digest, Sha256};
use spectrumkv::{
    CacheBuilder, DType, Endpoint, Engine, Half, Layer, Payload, PayloadKey, Plan, PlanKey, Result, Strides, f16,
};
use std::io::Write as _;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// float16, [layer, K or V, token, head, channel].
struct Shape {
    layers: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
}

const TENSORS: Shape = Shape { layers: 3, tokens: 200, heads: 2, dim: 64 };

impl Shape {
    fn of(payload: &Payload<'_>) -> Result<Self> {
        let first = payload.segment(0)?;
        Ok(Self { layers: payload.layers()?, tokens: first.tokens, heads: first.heads, dim: first.k_dim })
    }

    fn plane(&self) -> usize {
        self.tokens * self.heads * self.dim
    }

    fn halves(&self, l: usize) -> [(Half, usize, Strides); 2] {
        let rows = Strides::token_major(self.heads, self.dim);
        [(Half::K, 2 * l * self.plane(), rows), (Half::V, (2 * l + 1) * self.plane(), rows)]
    }

    fn builder<'m>(&self) -> Result<CacheBuilder<'m>> {
        CacheBuilder::new(self.layers)?.tokens(Layer::ALL, 0, self.tokens)?.layer(
            Layer::ALL,
            self.heads,
            self.dim,
            self.dim,
            DType::F16,
        )
    }
}

fn encode(path: &str) -> Result<Payload<'static>> {
    let bytes = std::fs::read(path).expect("the tensors");
    let memory: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
    let cache =
        (0..TENSORS.layers).try_fold(TENSORS.builder()?, |b, l| b.planes(l, &memory, &TENSORS.halves(l)))?.build()?;
    let engine = Engine::cpu()?;
    let mut plan = Plan::new(&engine)?;
    plan.set(PlanKey::UNPROVEN, 1)?; // synthetic tensors; real models: queries or a profile
    plan.set_budget(0.4)?;
    plan.solve(&cache, None)?;
    engine.encode(&cache, &plan)
}

fn decode(payload: &Payload<'_>) -> Result<()> {
    let shape = Shape::of(payload)?;
    let mut memory = vec![f16::ZERO; 2 * shape.layers * shape.plane()];
    let mut b = shape.builder()?;
    for (l, layer) in memory.chunks_exact_mut(2 * shape.plane()).enumerate() {
        b = b.planes_mut(l, layer, &shape.halves(0))?;
    }
    Engine::cpu()?.decode(payload, &mut b.build_mut()?)?;
    let mut digest = Sha256::new();
    memory.iter().for_each(|x| digest.update(x.to_le_bytes()));
    let text: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    println!("{text}");
    std::io::stdout().flush().expect("stdout");
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["encode", tensors, out] => std::fs::write(out, encode(tensors)?.bytes()?).expect("written"),
        ["decode", files @ ..] => files.iter().try_for_each(|file| decode(&Payload::load(file)?))?,
        ["send", tensors, uri] => {
            let payload = encode(tensors)?;
            Endpoint::new()?.connect(uri, LONG)?.send(1, &payload, LONG)?.result(LONG)?;
        }
        ["receive", uri, count] => {
            let endpoint = Endpoint::new()?;
            println!("{}", endpoint.listen(uri)?);
            for _ in 0..count.parse().expect("a number") {
                decode(&endpoint.accept(2 * LONG)?.receive(LONG)?)?;
            }
        }
        ["calls", file, count] => {
            let (payload, count) = (Payload::load(file)?, count.parse().expect("a number"));
            let start = std::time::Instant::now();
            for _ in 0..count {
                std::hint::black_box(payload.get(Some(0), PayloadKey::TOKENS)?);
            }
            println!("{:.1}", start.elapsed().as_nanos() as f64 / f64::from(count));
        }
        _ => panic!("usage: encode TENSORS OUT | decode IN... | send TENSORS URI | receive URI COUNT | calls IN COUNT"),
    }
    Ok(())
}
