// SPDX-License-Identifier: Apache-2.0
//! The stress program in Rust; see tests/stress/watch.py for its arguments and for what each operation does.

use spectrumkv::{
    AlignedBytes, Cache, CacheBuilder, CacheMut, Conn, DType, Endpoint, EndpointKey, Engine, EngineKey, Half, Layer,
    Payload, Plan, PlanKey, Request, Result, Status, Strides, f16,
};
use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

const LAYERS: usize = 2;
const TOKENS: usize = 64;
const DIM: usize = 64;
const PLANE: usize = TOKENS * DIM;
const ROWS: Strides = Strides::token_major(1, DIM);
const SOON: Duration = Duration::from_secs(60);

fn halves(l: usize) -> [(Half, usize, Strides); 2] {
    [(Half::K, 2 * l * PLANE, ROWS), (Half::V, (2 * l + 1) * PLANE, ROWS)]
}

fn shaped<'m>() -> Result<CacheBuilder<'m>> {
    CacheBuilder::new(LAYERS)?.tokens(Layer::ALL, 0, TOKENS)?.layer(Layer::ALL, 1, DIM, DIM, DType::F16)
}

fn view(memory: &[f16]) -> Result<Cache<'_>> {
    (0..LAYERS).try_fold(shaped()?, |b, l| b.planes(l, memory, &halves(l)))?.build()
}

fn view_mut(memory: &mut [f16]) -> Result<CacheMut<'_>> {
    let layers = memory.chunks_exact_mut(2 * PLANE).enumerate();
    layers.into_iter().try_fold(shaped()?, |b, (l, layer)| b.planes_mut(l, layer, &halves(0)))?.build_mut()
}

fn solved(engine: &Engine, cache: &Cache<'_>) -> Result<Plan> {
    let mut plan = Plan::new(engine)?;
    plan.set(PlanKey::UNPROVEN, 1)?;
    plan.set_budget(0.5)?;
    plan.solve(cache, None)?;
    Ok(plan)
}

/// Fails unless the call ended in one of these statuses.
#[track_caller]
fn is<T>(result: Result<T>, wanted: &[Status]) {
    let got = match result {
        Ok(_) => Status::OK,
        Err(error) => error.status(),
    };
    assert!(wanted.contains(&got), "got {got:?}, wanted {wanted:?}");
}

const ENDED: &[Status] = &[Status::CANCELLED, Status::OK];

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(out) => return out,
            Poll::Pending => std::thread::park_timeout(SOON),
        }
    }
}

struct Ends {
    here: Conn,
    there: Conn,
}

impl Ends {
    fn open(number: usize) -> Result<Self> {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("stress-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed));
        let uri = [format!("inproc://{name}"), format!("unix://@{name}"), "tcp://127.0.0.1:0".into()];
        let (a, b) = (Endpoint::new()?, Endpoint::new()?);
        for endpoint in [&a, &b] {
            // A busy machine is no lost peer.
            endpoint.set(EndpointKey::HEARTBEAT_MS, 60_000)?;
            endpoint.set(EndpointKey::HANDSHAKE_MS, 60_000)?;
        }
        let here = a.connect(&b.listen(&uri[number % 3])?, SOON)?;
        Ok(Self { here, there: b.accept(SOON)? })
    }

    fn offered(&self) -> Result<Request> {
        let request = self.there.recv_offer(SOON)?;
        request.result(SOON)?;
        Ok(request)
    }
}

struct Stress {
    engine: Engine,
    source: Vec<f16>,
    target: Vec<f16>,
    payload: Payload<'static>,
    sent: Vec<u8>,
    leak: String,
}

impl Stress {
    fn codec(&mut self, into: bool) -> Result<()> {
        let first = view(&self.source)?;
        let plan = solved(&self.engine, &first)?;
        let mut memory = AlignedBytes::zeroed(if into { plan.bytes()? } else { 0 });
        let encoded = if into {
            self.engine.encode_into(&first, &plan, &mut memory)?
        } else {
            self.engine.encode(&first, &plan)?
        };
        assert_eq!(encoded.bytes()?, self.sent);
        self.target.fill(f16::ZERO);
        self.engine.decode(&Payload::open(encoded.bytes()?)?, &mut view_mut(&mut self.target)?)?;
        assert!(self.target.last() != Some(&f16::ZERO));
        if self.leak == "memory" {
            std::mem::forget(encoded);
            std::mem::forget(memory);
        }
        Ok(())
    }

    fn refused(&mut self) -> Result<()> {
        let first = view(&self.source)?;
        let plan = solved(&self.engine, &first)?;
        is(self.engine.encode_into(&first, &plan, &mut AlignedBytes::zeroed(64)), &[Status::TOO_SMALL]);
        is(Payload::open(&self.sent[..self.sent.len() / 2]), &[Status::TRUNCATED]);
        let mut damaged = self.sent.clone();
        let at = damaged.len() - 40;
        damaged[at] ^= 1;
        let opened = Payload::from_vec(damaged)?;
        is(self.engine.decode(&opened, &mut view_mut(&mut self.target)?), &[Status::CHECKSUM]);
        Ok(())
    }

    /// Rust has no closed handles to use: a conn whose peer is gone, and a plan that outlives its engine and its cache.
    fn closed(&self) -> Result<()> {
        let ends = Ends::open(0)?;
        drop(ends.there);
        while ends.here.is_open()? {
            std::thread::yield_now();
        }
        is(ends.here.send(1, &self.payload, SOON), &[Status::CLOSED]);
        let plan = solved(&Engine::cpu()?, &view(&self.source)?)?;
        assert_eq!(plan.bytes()?, self.sent.len());
        Ok(())
    }

    fn transfer(&self, ends: &Ends, into: bool) -> Result<()> {
        let sending = ends.here.send(1, &self.payload, SOON)?;
        let mut receiving = ends.offered()?;
        let got = if into {
            is(receiving.accept_into(AlignedBytes::zeroed(self.sent.len() - 1), SOON), &[Status::TOO_SMALL]);
            receiving.accept_into(AlignedBytes::zeroed(self.sent.len()), SOON)?;
            block_on(&mut receiving)?;
            block_on(sending)?;
            receiving.payload()?
        } else {
            receiving.accept(SOON)?;
            receiving.result(SOON)?;
            sending.result(SOON)?;
            receiving.payload()?
        };
        drop(receiving);
        assert_eq!(got.bytes()?, self.sent);
        Ok(())
    }

    fn rejected(&self, ends: &Ends) -> Result<()> {
        let (sending, receiving) = (ends.here.send(1, &self.payload, SOON)?, ends.offered()?);
        receiving.reject("no room")?;
        is(sending.wait(SOON), &[Status::REJECTED]);
        is(receiving.wait(SOON), &[Status::REJECTED]);
        Ok(())
    }

    fn cancelled(&self, ends: &Ends, accepted: bool) -> Result<()> {
        let (sending, receiving) = (ends.here.send(1, &self.payload, SOON)?, ends.offered()?);
        if accepted {
            receiving.accept_into(AlignedBytes::zeroed(self.sent.len()), SOON)?;
            receiving.cancel()?;
        } else {
            sending.cancel()?;
        }
        is(sending.wait(SOON), ENDED);
        is(receiving.wait(SOON), ENDED);
        Ok(())
    }

    fn layers(&self, ends: &Ends) -> Result<()> {
        let cache = view(&self.source)?;
        let plan = solved(&self.engine, &cache)?;
        let mut building = Payload::create(&cache, &plan)?;
        let (sending, receiving) = (ends.here.send_layers(1, &mut building, SOON)?, ends.offered()?);
        receiving.accept(SOON)?;
        self.engine.encode_layer(&cache, &plan, 0, &mut building)?;
        drop(building);
        is(sending.wait(SOON), &[Status::CANCELLED]);
        is(receiving.wait(SOON), &[Status::CANCELLED]);
        Ok(())
    }

    fn dropped(&self, ends: &Ends) -> Result<()> {
        let own = Payload::from_vec(self.sent.clone())?;
        let _sending = ends.here.send(1, &own, SOON)?;
        drop(own);
        let receiving = ends.offered()?;
        receiving.accept(SOON)
    }

    fn renewed(&self, ends: Ends, number: usize) -> Result<Ends> {
        let (waiting, sending) = (ends.here.recv_offer(SOON)?, ends.here.send(1, &self.payload, SOON)?);
        if self.leak == "ends" {
            std::mem::forget(ends);
        } else {
            drop(ends);
            is(sending.wait(SOON), &[Status::CANCELLED]);
            is(waiting.wait(SOON), &[Status::CANCELLED]);
        }
        Ends::open(number)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operations, every, leak @ ..] = arguments.as_slice() else {
        panic!("usage: stress OPERATIONS EVERY [memory|ends]")
    };
    let (operations, every): (usize, usize) = (operations.parse().expect("a number"), every.parse().expect("a number"));
    let source: Vec<f16> = (0..2 * LAYERS * PLANE)
        .map(|i| f16::from_f32((i as u32).wrapping_mul(2_654_435_761) as i32 as f32 / 2e9))
        .collect();
    let mut engine = Engine::cpu()?;
    engine.set(EngineKey::THREADS, 1)?;
    let payload = {
        let cache = view(&source)?;
        engine.encode(&cache, &solved(&engine, &cache)?)?
    };
    let (sent, target) = (payload.bytes()?.to_vec(), vec![f16::ZERO; source.len()]);
    let mut stress = Stress { engine, source, target, payload, sent, leak: leak.first().cloned().unwrap_or_default() };
    let mut ends = Ends::open(0)?;
    for n in 0..operations {
        match n % 16 {
            6 => stress.refused()?,
            7 => stress.closed()?,
            kind @ (8 | 9) => stress.transfer(&ends, kind == 9)?,
            10 => stress.rejected(&ends)?,
            kind @ (11 | 12) => stress.cancelled(&ends, kind == 12)?,
            13 => stress.layers(&ends)?,
            14 => stress.dropped(&ends)?,
            15 => ends = stress.renewed(ends, n / 16 + 1)?,
            _ => stress.codec(n % 2 == 1)?,
        }
        if (n + 1) % every == 0 {
            println!("sample {}", n + 1);
            std::io::stdout().flush().expect("stdout");
            std::io::stdin().read_line(&mut String::new()).expect("stdin");
        }
    }
    Ok(())
}
