// SPDX-License-Identifier: Apache-2.0
//! Caches, plans and payloads through the library itself.

mod tensors;
use spectrumkv::*;
use tensors::*;

#[test]
fn a_cache_comes_back_within_its_budget() {
    let (engine, memory, mut got) = (engine(), layers(), zeros());
    let cache = source(&memory);
    let plan = plan(&engine, &cache, 0.4);
    let payload = engine.encode(&cache, &plan).unwrap();
    let bytes = payload.bytes().unwrap().to_vec();
    assert_eq!(bytes.len(), plan.bytes().unwrap());
    assert!(bytes.len() as u64 * 10 <= cache.raw_bytes().unwrap() * 4);
    engine.decode(&Payload::open(&bytes).unwrap(), &mut target(&mut got)).unwrap();
    assert!(rms(&memory, &got) < 0.25, "{}", rms(&memory, &got));
    assert!(got.iter().flatten().all(|half| half.iter().any(|x| *x != f16::ZERO)));
}

#[test]
fn a_packed_payload_is_smaller_and_decodes_to_the_same() {
    let (engine, memory, mut direct, mut unpacked) = (engine(), layers(), zeros(), zeros());
    let cache = source(&memory);
    let plain = engine.encode(&cache, &plan(&engine, &cache, 0.4)).unwrap();
    let packed = engine.pack(&plain).unwrap();
    let bytes = packed.bytes().unwrap().to_vec();
    assert!(bytes.len() < plain.bytes().unwrap().len());
    assert_eq!(packed.receipt().unwrap().unpacked_bytes, plain.bytes().unwrap().len() as u64);
    engine.decode(&plain, &mut target(&mut direct)).unwrap();
    engine.decode(&Payload::open(&bytes).unwrap(), &mut target(&mut unpacked)).unwrap();
    assert_eq!(direct, unpacked);
    assert_eq!(engine.pack(&packed).unwrap_err().status(), Status::STATE);
}

#[test]
fn raw_is_lossless_for_every_element_type() {
    fn lossless<T: Element + PartialEq + std::fmt::Debug>(of: impl Fn(f32) -> T) {
        let engine = engine();
        let k: Vec<T> = values(96 * 2 * 64, 3).into_iter().map(&of).collect();
        let mut got = vec![of(0.0); k.len()];
        let view = || CacheBuilder::new(1)?.tokens(0, 7, 96)?.layer(0, 2, 64, 0, T::DTYPE);
        let rows = Strides::token_major(2, 64);
        let cache = view().and_then(|b| b.plane(0, Half::K, &k, rows)?.build()).unwrap();
        let mut plan = Plan::new(&engine).unwrap();
        plan.set(PlanKey::UNPROVEN, 1).unwrap();
        plan.set_strategy("raw").unwrap();
        plan.solve(&cache, None).unwrap();
        let payload = engine.encode(&cache, &plan).unwrap();
        let segment = payload.segment(0).unwrap();
        assert_eq!((segment.dtype, segment.v_dim, segment.first_position), (T::DTYPE, 0, 7));
        let mut to = view().and_then(|b| b.plane_mut(0, Half::K, &mut got, rows)?.build_mut()).unwrap();
        engine.decode(&payload, &mut to).unwrap();
        drop(to);
        assert_eq!(k, got);
    }
    lossless(f16::from_f32);
    lossless(bf16::from_f32);
    lossless(|x| x);
}

#[test]
fn fused_pages_decode_into_a_head_major_tensor() {
    // A page holds 16 tokens of K, then of V: [page, half, token, head, dim].
    const PAGE: usize = 16;
    let (engine, memory) = (engine(), layers());
    let order: Vec<i32> = (0..(TOKENS / PAGE) as i32).map(|i| (i * 7 + 3) % (TOKENS / PAGE) as i32).collect();
    let rows = HEADS * DIM;
    let mut pool = vec![f16::ZERO; TOKENS * rows * 2];
    for t in 0..TOKENS {
        let page = order[t / PAGE] as usize * PAGE * rows * 2 + t % PAGE * rows;
        pool[page..page + rows].copy_from_slice(&memory[0][0][t * rows..][..rows]);
        pool[page + PAGE * rows..][..rows].copy_from_slice(&memory[0][1][t * rows..][..rows]);
    }
    let strides = Strides::token_major(HEADS, DIM).with_block(PAGE * rows * 2);
    let view = || CacheBuilder::new(1)?.tokens(0, 0, TOKENS)?.layer(0, HEADS, DIM, DIM, DType::F16);
    let paged = view()
        .and_then(|b| b.planes(0, &pool, &[(Half::K, 0, strides), (Half::V, PAGE * rows, strides)]))
        .and_then(|b| b.blocks(0, &order, PAGE)?.build())
        .unwrap();
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    plan.set_strategy("raw").unwrap();
    plan.solve(&paged, None).unwrap();
    let payload = engine.encode(&paged, &plan).unwrap();
    let (mut k, mut v) = (vec![f16::ZERO; TOKENS * rows], vec![f16::ZERO; TOKENS * rows]);
    let head_major = Strides::head_major(TOKENS, DIM);
    let mut to = view()
        .and_then(|b| {
            b.plane_mut(0, Half::K, &mut k, head_major)?.plane_mut(0, Half::V, &mut v, head_major)?.build_mut()
        })
        .unwrap();
    engine.decode(&payload, &mut to).unwrap();
    drop(to);
    for t in 0..TOKENS {
        for h in 0..HEADS {
            let (a, b) = ((t * HEADS + h) * DIM, (h * TOKENS + t) * DIM);
            assert_eq!(memory[0][0][a..a + DIM], k[b..b + DIM]);
            assert_eq!(memory[0][1][a..a + DIM], v[b..b + DIM]);
        }
    }
}

#[test]
fn layer_by_layer_and_into_memory_equal_at_once() {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let plan = plan(&engine, &cache, 0.3);
    let whole = engine.encode(&cache, &plan).unwrap();
    let mut parts = Payload::create(&cache, &plan).unwrap();
    for layer in (0..LAYERS).rev() {
        assert_eq!(status(parts.bytes()), Status::STATE);
        engine.encode_layer(&cache, &plan, layer, &mut parts).unwrap();
    }
    assert_eq!(parts.bytes().unwrap(), whole.bytes().unwrap());
    let mut buffer = AlignedBytes::zeroed(plan.bytes().unwrap());
    let into = engine.encode_into(&cache, &plan, &mut buffer).unwrap();
    assert_eq!(into.bytes().unwrap(), whole.bytes().unwrap());
    let copy = into.to_owned().unwrap();
    drop(into);
    assert_eq!(&buffer[..], whole.bytes().unwrap());
    let (mut a, mut b) = (zeros(), zeros());
    engine.decode(&copy, &mut target(&mut a)).unwrap();
    let mut to = target(&mut b);
    for layer in 0..LAYERS {
        engine.decode_layer(&whole, &mut to, layer).unwrap();
    }
    drop(to);
    assert_eq!(a, b);
}

#[test]
fn weights_and_queries_steer_the_plan() {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let mut scores = Scores::new().unwrap();
    assert_eq!(status(scores.get(0, Half::K, TOKENS)), Status::STATE);
    let weights: Vec<f32> = (0..TOKENS).map(|t| if t < TOKENS / 2 { 1e4 } else { 1e-4 }).collect();
    scores.set_weights(Layer::ALL, Half::K, &weights).unwrap();
    scores.set_weights(Layer::ALL, Half::V, &weights).unwrap();
    engine.score(&cache, &mut scores).unwrap();
    assert_eq!(scores.get(1, Half::K, TOKENS).unwrap(), weights);
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    plan.set_budget_bytes(cache.raw_bytes().unwrap() * 2 / 5).unwrap();
    plan.set(PlanKey::SINKS, 0).unwrap();
    plan.solve(&cache, Some(&scores)).unwrap();
    let tiers = plan.tiers(0, Half::K, TOKENS).unwrap();
    let mean = |t: &[Tier]| t.iter().map(|t| t.0).sum::<i32>() as f32 / t.len() as f32;
    assert!(mean(&tiers[..TOKENS / 2]) > mean(&tiers[TOKENS / 2..]) + 1.0);
    let receipt = engine.encode(&cache, &plan).unwrap().receipt().unwrap();
    assert_eq!((receipt.scored, receipt.raw_bytes), (Scored::CALLER, cache.raw_bytes().unwrap()));
    assert_eq!(receipt.k_rows.iter().sum::<u64>(), (TOKENS * LAYERS) as u64);

    let queries = values(64 * 4 * DIM, 77);
    let mut by_query = Scores::new().unwrap();
    for layer in 0..LAYERS {
        by_query.set_queries(layer, &queries, Queries::query_major(64, 4, DIM)).unwrap();
    }
    engine.score(&cache, &mut by_query).unwrap();
    plan.solve(&cache, Some(&by_query)).unwrap();
    assert_eq!(engine.encode(&cache, &plan).unwrap().receipt().unwrap().scored, Scored::QUERIES);
}

#[test]
fn tiers_can_be_read_and_replaced() {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    plan.set_strategy("uniform-8").unwrap();
    plan.solve(&cache, None).unwrap();
    let before = plan.bytes().unwrap();
    plan.set_tiers(0, Half::V, &[Tier::FOUR_BIT; TOKENS]).unwrap();
    assert!(plan.bytes().unwrap() < before);
    let payload = engine.encode(&cache, &plan).unwrap();
    assert_eq!(payload.tiers(0, Half::V).unwrap(), [Tier::FOUR_BIT; TOKENS]);
    assert_eq!(payload.tiers(0, Half::K).unwrap(), plan.tiers(0, Half::K, TOKENS).unwrap());
    assert_eq!(status(plan.set_tiers(0, Half::K, &[Tier::DROP; TOKENS])), Status::PERMITTED);
    assert_eq!(status(plan.set_tiers(0, Half::K, &[Tier(99); TOKENS])), Status::RANGE);
    assert_eq!(format!("{:?} {:?}", Tier::FOUR_BIT, Tier(99)), "SKV_TIER_4BIT Tier(99)");
}

#[test]
fn handles_move_between_threads() {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let solved = plan(&engine, &cache, 0.5);
    let payload = std::thread::scope(|s| {
        s.spawn(move || {
            let payload = engine.encode(&cache, &solved).unwrap();
            payload.verify().unwrap();
            payload
        })
        .join()
        .unwrap()
    });
    assert_eq!(payload.layers().unwrap(), LAYERS);
}

#[test]
fn a_plan_outlives_its_engine_and_a_payload_everything() {
    let memory = layers();
    let payload = {
        let first = engine();
        let cache = source(&memory);
        let plan = plan(&first, &cache, 0.5);
        drop(first);
        let second = engine();
        let payload = second.encode(&cache, &plan).unwrap();
        assert!(second.describe().unwrap().starts_with("cpu"));
        payload
    };
    payload.verify().unwrap();
    assert_eq!(payload.identity().unwrap(), ([0; 32], [0; 16]));
}

#[test]
fn versions_are_the_headers() {
    assert_eq!(version().unwrap(), env!("CARGO_PKG_VERSION"));
    let number = sys::SKV_VERSION_MAJOR * 10000 + sys::SKV_VERSION_MINOR * 100 + sys::SKV_VERSION_PATCH;
    assert_eq!(version_number().unwrap(), number as u32);
    assert_eq!(wire_version().unwrap(), (sys::SKV_WIRE_MAJOR as u32, sys::SKV_WIRE_MINOR as u32));
}

#[test]
fn low_tiers_need_a_verdict() {
    let (engine, memory) = (engine(), layers());
    let model = [5; 32];
    let rows = Strides::token_major(HEADS, DIM);
    let cache = memory.iter().enumerate().fold(builder().identity(Some(&model), None).unwrap(), |b, (l, [k, v])| {
        b.plane(l, Half::K, k, rows).and_then(|b| b.plane(l, Half::V, v, rows)).unwrap()
    });
    let cache = cache.build().unwrap();
    let mut strict = Plan::new(&engine).unwrap();
    strict.set_budget(0.4).unwrap();
    assert_eq!(status(strict.solve(&cache, None)), Status::PERMITTED);

    let mut probe = NeedleProbe::new(200).unwrap();
    assert!(probe.prompt(0).unwrap().split_whitespace().count() > 100);
    assert_eq!(status(probe.prompt(NEEDLE_TRIALS)), Status::RANGE);
    let mut profile = Profile::new(&model, LAYERS, Code::EMBEDDED).unwrap();
    assert_eq!(status(probe.verdict(&mut profile)), Status::STATE);
    let numbers =
        |text: &str| text.split(|c: char| !c.is_ascii_digit()).filter(|n| n.len() > 3).map(str::to_owned).next();
    for trial in 0..NEEDLE_TRIALS {
        let number = numbers(probe.prompt(trial).unwrap()).expect("a number is hidden");
        assert!(probe.answer(trial, &format!("It was {number}.")).unwrap());
        assert_eq!(status(probe.answer(trial, "again")), Status::STATE);
    }
    probe.verdict(&mut profile).unwrap();
    let said = profile.verdict(None).unwrap();
    assert_eq!((said.verdict, profile.verdict(Some(Probe::NEEDLE)).unwrap().passed), (Verdict::YES, 3));

    let json = profile.to_json().unwrap();
    let profile = Profile::open(&json).unwrap();
    assert_eq!(status(Profile::open(&json[1..])), Status::MALFORMED);
    assert_eq!(profile.to_json().unwrap(), json);
    strict.set_profile(Some(&profile)).unwrap();
    strict.solve(&cache, None).unwrap();
    assert!(strict.cost(0, Half::K).unwrap() > 0.0);
    let receipt = engine.encode(&cache, &strict).unwrap().receipt().unwrap();
    assert_eq!((receipt.proof, receipt.int4), (Proof::PROFILE, Verdict::YES));

    let mut no = Profile::new(&model, LAYERS, Code::EMBEDDED).unwrap();
    no.calibrate(0, Half::K, Scored::KV, 1.0, 0.01).unwrap();
    no.set_verdict(Probe::LOGITS, Said { verdict: Verdict::NO, passed: 0, trials: 1 }).unwrap();
    assert_eq!(no.verdict(None).unwrap().verdict, Verdict::NO);
    let mut other = Plan::new(&engine).unwrap();
    other.set_strategy("uniform-4").unwrap();
    other.set_profile(Some(&no)).unwrap();
    assert_eq!(status(other.solve(&cache, None)), Status::PERMITTED);
}

#[test]
fn precision_follows_and_is_given_up() {
    let (engine, memory) = (engine(), layers());
    let cache = source(&memory);
    let base = engine.encode(&cache, &plan(&engine, &cache, 0.3)).unwrap();
    let mut more = Plan::new(&engine).unwrap();
    more.set_budget(0.1).unwrap();
    assert_eq!(status(engine.encode_upgrade(&cache, &base, &more)), Status::STATE);
    more.upgrade(&base, &cache, None).unwrap();
    let upgrade = engine.encode_upgrade(&cache, &base, &more).unwrap();
    assert_eq!(upgrade.bytes().unwrap().len(), more.bytes().unwrap());
    let better = base.apply(&upgrade).unwrap();
    for layer in 0..LAYERS {
        for half in [Half::K, Half::V] {
            assert_eq!(better.tiers(layer, half).unwrap(), more.tiers(layer, half, TOKENS).unwrap());
        }
    }
    assert_eq!(status(better.apply(&upgrade)), Status::BASE);
    let (mut low, mut high) = (zeros(), zeros());
    assert_eq!(status(engine.decode(&upgrade, &mut target(&mut low))), Status::STATE);
    engine.decode(&base, &mut target(&mut low)).unwrap();
    engine.decode(&better, &mut target(&mut high)).unwrap();
    assert!(rms(&memory, &high) < rms(&memory, &low));
    // Back to the bytes there were.
    let mut less = Plan::new(&engine).unwrap();
    less.truncate(&better, None).unwrap();
    for layer in 0..LAYERS {
        for half in [Half::K, Half::V] {
            let raw = |tier: &Tier| *tier == Tier::RAW;
            let tiers = base.tiers(layer, half).unwrap();
            let now = better.tiers(layer, half).unwrap();
            let wanted: Vec<Tier> = tiers.iter().zip(&now).map(|(was, is)| if raw(is) { *is } else { *was }).collect();
            less.set_tiers(layer, half, &wanted).unwrap();
        }
    }
    let cut = better.truncate(&less).unwrap();
    assert_eq!(cut.bytes().unwrap().len(), less.bytes().unwrap());
    assert!(cut.bytes().unwrap().len() < better.bytes().unwrap().len());
    assert_eq!(status(base.truncate(&less)), Status::BASE);
}
