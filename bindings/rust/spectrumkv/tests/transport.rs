// SPDX-License-Identifier: Apache-2.0
//! Endpoints, conns and requests over every plane, requests as futures, and requests that are dropped early.

mod tensors;
use spectrumkv::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;
use tensors::*;

const LONG: Duration = Duration::from_secs(20);

fn unique(scheme: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    match scheme {
        "tcp" => "tcp://127.0.0.1:0".into(),
        "unix" => format!("unix://@skv-rust-{}-{n}", std::process::id()),
        _ => format!("inproc://rust-{}-{n}", std::process::id()),
    }
}

/// Two ends of a conn: (sender, receiver).
fn pair(uri: &str) -> (Conn, Conn) {
    let (a, b) = (Endpoint::new().unwrap(), Endpoint::new().unwrap());
    let uri = b.listen(uri).unwrap();
    let connecting = std::thread::spawn(move || a.connect(&uri, LONG).unwrap());
    let there = b.accept(LONG).unwrap();
    (connecting.join().unwrap(), there)
}

/// Many segments of raw rows: takes long enough to be stopped half-way.
fn large() -> Payload<'static> {
    let (engine, layers, tokens) = (engine(), 32, 4096);
    let count = tokens * 2 * 64;
    let memory = vec![f16::from_f32(0.5); 2 * layers * count];
    let rows = Strides::token_major(2, 64);
    let b = CacheBuilder::new(layers).and_then(|b| b.tokens(Layer::ALL, 0, tokens)).unwrap();
    let b = b.layer(Layer::ALL, 2, 64, 64, DType::F16).unwrap();
    let b = (0..layers).fold(b, |b, l| {
        b.planes(l, &memory[2 * l * count..][..2 * count], &[(Half::K, 0, rows), (Half::V, count, rows)]).unwrap()
    });
    let cache = b.build().unwrap();
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    plan.set_strategy("raw").and_then(|()| plan.solve(&cache, None)).unwrap();
    engine.encode(&cache, &plan).unwrap()
}

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
    let deadline = std::time::Instant::now() + LONG;
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return out;
        }
        std::thread::park_timeout(Duration::from_millis(500));
        assert!(std::time::Instant::now() < deadline, "nothing woke the future");
    }
}

#[test]
fn a_payload_travels_over_every_plane() {
    for scheme in ["tcp", "unix", "inproc"] {
        let (here, there) = pair(&unique(scheme));
        let payload = payload();
        let bytes = payload.bytes().unwrap().to_vec();
        let request = here.send(7, &payload, LONG).unwrap();
        drop(payload);
        let got = there.receive(LONG).unwrap();
        request.result(LONG).unwrap();
        assert_eq!(got.bytes().unwrap(), bytes, "{scheme}");
        let receipt = got.receipt().unwrap();
        assert_eq!(receipt.plane, here.plane().unwrap());
        assert!(receipt.wire_ns > 0);
        drop(there);
        let mut back = zeros();
        engine().decode(&got, &mut target(&mut back)).unwrap();
        assert!(rms(&layers(), &back) < 0.25);
    }
}

#[test]
fn an_offer_is_looked_at_and_taken_into_own_memory() {
    let (here, there) = pair(&unique("tcp"));
    let payload = payload();
    let sent = here.send(u64::MAX, &payload, LONG).unwrap();
    let request = there.recv_offer(LONG).unwrap();
    request.result(LONG).unwrap();
    let offer = request.offer().unwrap();
    assert_eq!((offer.key, offer.bytes, offer.layers), (u64::MAX, payload.size().unwrap(), LAYERS));
    assert_eq!(status(request.accept_into(AlignedBytes::zeroed(offer.bytes - 1), LONG)), Status::TOO_SMALL);
    request.accept_into(AlignedBytes::zeroed(offer.bytes + 100), LONG).unwrap();
    while !request.wait_layer(LAYERS - 1, Duration::from_millis(50)).unwrap() {}
    request.result(LONG).unwrap();
    sent.result(LONG).unwrap();
    let got = request.payload().unwrap();
    assert_eq!(status(request.payload()), Status::STATE);
    drop((request, there, here));
    assert_eq!(got.bytes().unwrap(), payload.bytes().unwrap());
}

#[test]
fn refusals_reach_both_ends() {
    let (here, there) = pair(&unique("tcp"));
    let sent = here.send(1, &payload(), LONG).unwrap();
    let request = there.recv_offer(LONG).unwrap();
    assert_eq!(status(sent.accept(LONG)), Status::STATE);
    request.result(LONG).unwrap();
    request.reject("no room here").unwrap();
    let error = sent.wait(LONG).unwrap_err();
    assert_eq!(error.status(), Status::REJECTED);
    assert!(error.message().contains("no room here"), "{error}");
    assert_eq!(status(request.wait(LONG)), Status::REJECTED);
    assert_eq!(request.state().unwrap(), RequestState::ENDED);
}

#[test]
fn waiting_ends_by_its_deadline_and_cancelling_ends_at_once() {
    let (here, there) = pair(&unique("unix"));
    let sent = here.send(1, &payload(), LONG).unwrap();
    assert!(!sent.wait(Duration::from_millis(5)).unwrap());
    assert_eq!(status(sent.result(Duration::from_millis(5))), Status::TIMED_OUT);
    sent.cancel().unwrap();
    assert_eq!(status(sent.wait(LONG)), Status::CANCELLED);
    let late = here.send(2, &payload(), Duration::from_millis(20)).unwrap();
    assert_eq!(status(late.wait(LONG)), Status::TIMED_OUT);
    assert_eq!(status(here.send(3, &payload(), Duration::ZERO)), Status::TIMED_OUT);
    let lost = here.send(4, &payload(), LONG).unwrap();
    drop(there);
    assert!(matches!(status(lost.wait(LONG)), Status::PEER_LOST | Status::CANCELLED));
    assert!(!here.is_open().unwrap());
    assert_eq!(status(here.send(5, &payload(), LONG)), Status::CLOSED);
}

#[test]
fn addresses_and_models_are_checked() {
    let a = Endpoint::new().unwrap();
    for bad in ["", "http://x", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "a\0b"] {
        assert!(matches!(status(a.listen(bad)), Status::ADDRESS | Status::ARGUMENT), "{bad:?}");
    }
    assert_eq!(status(Endpoint::new().unwrap().listen("tcp://0.0.0.0:0")), Status::PERMITTED);
    assert_eq!(status(a.accept(Duration::ZERO)), Status::STATE);
    let b = Endpoint::new().unwrap();
    b.set_model(&[7; 32]).unwrap();
    let uri = b.listen(&unique("tcp")).unwrap();
    assert_eq!(status(b.set(EndpointKey::CHUNK, 65536)), Status::STATE);
    assert_eq!(status(a.connect(&uri, LONG)), Status::MODEL);
    assert!(b.stats().unwrap().handshakes_failed > 0 || a.stats().unwrap().handshakes_failed > 0);
}

#[test]
fn a_request_is_a_future() {
    let (here, there) = pair(&unique("tcp"));
    let payload = payload();
    let got = block_on(async {
        let mut sent = here.send(1, &payload, LONG)?;
        let mut request = there.recv_offer(LONG)?;
        (&mut request).await?;
        request.accept(LONG)?;
        (&mut request).await?;
        (&mut sent).await?;
        request.payload()
    })
    .unwrap();
    assert_eq!(got.bytes().unwrap(), payload.bytes().unwrap());
    // One that nobody answers ends by its own deadline.
    let lonely = here.send(2, &payload, Duration::from_millis(50)).unwrap();
    assert_eq!(status(block_on(lonely)), Status::TIMED_OUT);
}

/// An executor's waker is foreign code on the thread that wakes all futures of an endpoint.
#[test]
fn a_waker_that_panics_leaves_the_others_awake() {
    struct Panics(AtomicU64);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("an executor's defect");
        }
    }
    let (here, there) = pair(&unique("unix"));
    let panics = Arc::new(Panics(AtomicU64::new(0)));
    let waker = Arc::clone(&panics).into();
    for round in 1..=3 {
        let mut sent = here.send(round, &payload(), LONG).unwrap();
        assert!(pin!(&mut sent).poll(&mut Context::from_waker(&waker)).is_pending());
        there.receive(LONG).unwrap();
        let deadline = std::time::Instant::now() + LONG;
        while panics.0.load(Ordering::SeqCst) < round {
            assert!(std::time::Instant::now() < deadline, "round {round} woke nobody");
            std::thread::yield_now();
        }
        sent.result(LONG).unwrap();
    }
    let sent = here.send(9, &payload(), LONG).unwrap();
    let receiving = std::thread::spawn(move || (there.receive(LONG).unwrap(), there));
    block_on(sent).unwrap();
    receiving.join().unwrap();
}

#[test]
fn futures_are_woken_without_a_progress_thread_too() {
    let (a, b) = (Endpoint::new().unwrap(), Endpoint::new().unwrap());
    a.set(EndpointKey::PROGRESS_THREAD, 0).unwrap();
    let uri = b.listen(&unique("tcp")).unwrap();
    let accepting = std::thread::spawn(move || b.accept(LONG).and_then(|conn| conn.receive(LONG)));
    let here = a.connect(&uri, LONG).unwrap();
    let payload = payload();
    struct Count(AtomicU64);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Count(AtomicU64::new(0)));
    let waker = Arc::clone(&woken).into();
    let mut request = pin!(here.send(3, &payload, LONG).unwrap());
    assert!(request.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    while woken.0.load(Ordering::SeqCst) == 0 {
        a.progress(Duration::from_millis(100)).unwrap();
    }
    assert!(matches!(request.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(()))));
    // The receiver's last words still have to go out.
    let receiving = std::thread::spawn(move || accepting.join().unwrap());
    while !receiving.is_finished() {
        a.progress(Duration::from_millis(20)).unwrap();
    }
    assert_eq!(receiving.join().unwrap().unwrap().bytes().unwrap(), payload.bytes().unwrap());
}

#[test]
fn poll_reports_requests_by_their_handles() {
    let (a, b) = (Endpoint::new().unwrap(), Endpoint::new().unwrap());
    let uri = b.listen(&unique("unix")).unwrap();
    let here = a.connect(&uri, LONG).unwrap();
    let there = b.accept(LONG).unwrap();
    let sent = here.send(1, &payload(), LONG).unwrap();
    let request = there.recv_offer(LONG).unwrap();
    request.result(LONG).unwrap();
    assert_eq!(b.poll().unwrap(), [request.handle()]);
    assert!(b.poll().unwrap().is_empty());
    request.accept(LONG).unwrap();
    request.result(LONG).unwrap();
    sent.result(LONG).unwrap();
    assert_eq!(b.poll().unwrap(), [request.handle()]);
    assert_eq!(a.poll().unwrap(), [sent.handle()]);
    assert_eq!((a.stats().unwrap().sent_ok, b.stats().unwrap().received_ok), (1, 1));
}

/// Requests dropped at every moment of a transfer, on either side. What they read or fill must outlive their I/O: glibc's
/// checks and the other end's digests would notice.
#[test]
fn requests_dropped_early_let_go_of_their_memory() {
    let payload = large();
    let bytes = payload.bytes().unwrap().to_vec();
    for round in 0..24 {
        let (here, there) = pair(&unique(["tcp", "unix", "inproc"][round % 3]));
        let own = Payload::from_vec(bytes.clone()).unwrap();
        let sent = here.send(1, &own, LONG).unwrap();
        drop(own);
        let request = there.recv_offer(LONG).unwrap();
        if round % 4 == 0 {
            drop(sent);
            continue;
        }
        request.result(LONG).unwrap();
        request.accept_into(AlignedBytes::zeroed(bytes.len()), LONG).unwrap();
        while request.get(RequestKey::MOVED).unwrap() == 0 && request.state().unwrap() == RequestState::MOVING {}
        match round % 4 {
            1 => drop(sent),
            2 => drop(request),
            _ => drop((request, sent)),
        }
        // Freed memory is given out again, and written.
        let again = vec![0xA5u8; bytes.len()];
        assert!(again.iter().all(|x| *x == 0xA5));
    }
}

/// A payload that was leaked on purpose, a request forgotten: nothing may be freed under the transfer.
#[test]
fn a_forgotten_request_keeps_its_bytes() {
    let (here, there) = pair(&unique("tcp"));
    let own = Payload::from_vec(payload().bytes().unwrap().to_vec()).unwrap();
    let bytes = own.bytes().unwrap().to_vec();
    std::mem::forget(here.send(1, &own, LONG).unwrap());
    drop(own);
    assert_eq!(there.receive(LONG).unwrap().bytes().unwrap(), bytes);
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Run alone by the name filter, as the figures are the process's.
#[test]
#[ignore = "counts the whole process's memory and descriptors: run alone, with --ignored"]
fn nothing_leaks() {
    let round = || {
        let (here, there) = pair(&unique("tcp"));
        let payload = payload();
        let mut sent = here.send(1, &payload, LONG).unwrap();
        let dropped = here.send(2, &payload, LONG).unwrap();
        let got = there.receive(LONG).unwrap();
        drop(dropped);
        block_on(&mut sent).unwrap();
        let mut back = zeros();
        engine().decode(&got, &mut target(&mut back)).unwrap();
        assert_eq!(status(Payload::open(&got.bytes().unwrap()[1..])), Status::MALFORMED);
    };
    (0..20).for_each(|_| round());
    let (memory, files) = (resident_kib(), descriptors());
    (0..200).for_each(|_| round());
    let (memory_after, files_after) = (resident_kib(), descriptors());
    println!("{memory} -> {memory_after} KiB, {files} -> {files_after} descriptors after 200 rounds");
    // A round's tensors and payload are 700 KiB: one leaked a round would be 140 MiB.
    assert!(memory_after < memory + 16 * 1024, "{memory} -> {memory_after} KiB");
    assert!(files_after <= files, "{files} -> {files_after} descriptors");
}

#[test]
fn keys_are_asked_for_and_conns_drained() {
    let (a, b, stranger) = (Endpoint::new().unwrap(), Endpoint::new().unwrap(), Endpoint::new().unwrap());
    assert_eq!(status(a.set_psk(Security::PSK, b"short")), Status::RANGE);
    a.set_psk(Security::TLS_PSK, b"0123456789abcdef").unwrap();
    b.set_psk(Security::TLS_PSK, b"0123456789abcdef").unwrap();
    stranger.set_psk(Security::TLS_PSK, b"another key 0123").unwrap();
    let error =
        Endpoint::new().unwrap().set_tls("/nowhere/c.pem", "/nowhere/k.pem", "/nowhere/a.pem", None).unwrap_err();
    assert_eq!(error.status(), Status::AUTH);
    assert!(error.message().contains("/nowhere/"), "{error}");
    let uri = b.listen(&unique("tcp")).unwrap();
    assert_eq!(status(stranger.connect(&uri, LONG)), Status::AUTH);
    let here = a.connect(&uri, LONG).unwrap();
    let there = b.accept(LONG).unwrap();
    assert_eq!((here.security().unwrap(), there.security().unwrap()), (Security::TLS_PSK, Security::TLS_PSK));
    let sent = here.send(9, &payload(), LONG).unwrap();
    let got = there.receive(LONG).unwrap();
    sent.result(LONG).unwrap();
    assert_eq!(got.bytes().unwrap(), payload().bytes().unwrap());
    assert!(b.drain(LONG).unwrap());
    let events = b.events().unwrap();
    assert!(events.iter().any(|e| e.kind == EventKind::HANDSHAKE_FAILED && e.status == Status::AUTH), "{events:?}");
    assert!(events.iter().any(|e| e.kind == EventKind::ENDED && e.key == 9 && e.status == Status::OK && !e.sending));
    assert!(b.events().unwrap().is_empty());
    let stats = b.stats().unwrap();
    assert_eq!((stats.received_ok, stats.bytes_log2.iter().sum::<u64>()), (1, 1));
    assert!(stats.auth_errors > 0);
}

#[test]
fn layers_leave_while_others_are_encoded_and_arrive_early() {
    let (here, there) = pair(&unique("tcp"));
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let plan = plan(&engine, &cache, 0.4);
    let mut building = Payload::create(&cache, &plan).unwrap();
    let sent = here.send_layers(1, &mut building, LONG).unwrap();
    let request = there.recv_offer(LONG).unwrap();
    request.result(LONG).unwrap();
    request.set(RequestKey::EARLY_LAYERS, 1).unwrap();
    request.accept(LONG).unwrap();
    assert!(!request.wait_layer(0, Duration::from_millis(10)).unwrap());
    engine.encode_layer(&cache, &plan, 0, &mut building).unwrap();
    assert!(request.wait_layer(0, LONG).unwrap());
    let early = request.payload().unwrap();
    let mut got = zeros();
    let mut to = target(&mut got);
    engine.decode_layer(&early, &mut to, 0).unwrap();
    assert_eq!(status(engine.decode_layer(&early, &mut to, 1)), Status::STATE);
    engine.encode_layer(&cache, &plan, 1, &mut building).unwrap();
    request.result(LONG).unwrap();
    sent.result(LONG).unwrap();
    engine.decode_layer(&early, &mut to, 1).unwrap();
    drop(to);
    assert!(rms(&memory, &got) < 0.25);
    assert_eq!(early.bytes().unwrap(), building.bytes().unwrap());

    let mut never = Payload::create(&cache, &plan).unwrap();
    let lost = here.send_layers(2, &mut never, LONG).unwrap();
    drop(never);
    assert_eq!(status(lost.wait(LONG)), Status::CANCELLED);
}
