// SPDX-License-Identifier: Apache-2.0
//! Every failure is its own status, with a message.

mod tensors;
use spectrumkv::*;
use std::path::Path;
use tensors::*;

#[test]
fn every_status_has_the_name_of_the_header() {
    for (value, name) in Status::ALL {
        assert_eq!(value.to_string(), *name);
    }
    assert_eq!(Status(-9999).to_string(), "SKV_UNKNOWN");
}

#[test]
fn views_that_make_no_sense() {
    let memory = halves(1);
    let rows = Strides::token_major(HEADS, DIM);
    let one = || CacheBuilder::new(1).unwrap();
    assert_eq!(status(CacheBuilder::new(0)), Status::RANGE);
    assert_eq!(status(CacheBuilder::new(usize::MAX)), Status::RANGE);
    assert_eq!(status(one().tokens(1, 0, 5)), Status::RANGE);
    assert_eq!(status(one().tokens(0, usize::MAX, 5)), Status::RANGE);
    assert_eq!(status(one().tokens(0, 0, 0)), Status::EMPTY);
    assert_eq!(status(one().layer(0, 1, 12, 8, DType::F16)), Status::GEOMETRY);
    assert_eq!(status(one().layer(0, 1, 8, 8, DType(9))), Status::DTYPE);
    assert_eq!(status(one().set(CacheKey(99), 1)), Status::KEY);
    assert_eq!(status(one().build()), Status::EMPTY);
    let shaped = || one().tokens(0, 0, TOKENS)?.layer(0, HEADS, DIM, 0, DType::F16);
    let view = |strides| shaped()?.plane(0, Half::K, &memory, strides)?.build();
    assert_eq!(status(view(rows)), Status::OK);
    assert_eq!(status(view(Strides { token: rows.token * 2, ..rows })), Status::STRIDE);
    assert_eq!(status(view(Strides { token: usize::MAX, ..rows })), Status::STRIDE);
    assert_eq!(status(view(Strides { token: 1, ..rows })), Status::STRIDE);
    let both = one().tokens(0, 0, TOKENS).and_then(|b| b.layer(0, HEADS, DIM, DIM, DType::F16)).unwrap();
    let both = both.planes(0, &memory, &[(Half::K, 0, rows), (Half::V, 0, rows)]).unwrap();
    assert_eq!(status(both.build()), Status::OVERLAP);
    let first = shaped().and_then(|b| b.planes(0, &memory, &[(Half::K, memory.len() + 1, rows)]));
    assert_eq!(status(first), Status::RANGE);
    let blocks = |ids: &[i32]| {
        shaped()?.plane(0, Half::K, &memory, rows.with_block(rows.token * 64))?.blocks(0, ids, 64)?.build()
    };
    assert_eq!(status(blocks(&[0, 1, 2, 3, 4])), Status::OK);
    assert_eq!(status(blocks(&[0, 1, 2, 3, 3])), Status::BLOCK_ID);
    assert_eq!(status(blocks(&[0, 1, 2, 3, 5])), Status::BLOCK_ID);
    assert_eq!(status(shaped().and_then(|b| b.plane(0, Half::K, &memory, rows)?.build_mut())), Status::ARGUMENT);
}

#[test]
fn plans_and_options() {
    let (mut engine, memory) = (engine(), layers());
    let cache = source(&memory);
    assert_eq!(status(Engine::new(7)), Status::UNAVAILABLE);
    assert_eq!(status(engine.set(EngineKey(99), 1)), Status::KEY);
    assert_eq!(status(engine.set(EngineKey::THREADS, 1000)), Status::RANGE);
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    assert_eq!(status(plan.solve(&cache, None)), Status::STATE);
    assert_eq!(status(plan.bytes()), Status::STATE);
    assert_eq!(status(engine.encode(&cache, &plan)), Status::STATE);
    assert_eq!(status(plan.set_budget(-1.0)), Status::RANGE);
    assert_eq!(status(plan.set_strategy("best")), Status::KEY);
    assert_eq!(status(plan.set_strategy("a\0b")), Status::ARGUMENT);
    plan.set_budget(0.01).unwrap();
    let error = plan.solve(&cache, None).unwrap_err();
    assert_eq!(error.status(), Status::BUDGET);
    assert!(error.message().chars().any(char::is_numeric), "{error} names no floor");
    plan.set_budget(0.5).unwrap();
    plan.solve(&cache, None).unwrap();
    let mut small = AlignedBytes::zeroed(plan.bytes().unwrap() - 16);
    assert_eq!(status(engine.encode_into(&cache, &plan, &mut small)), Status::TOO_SMALL);
    let mut crooked = AlignedBytes::zeroed(plan.bytes().unwrap() + 1);
    assert_eq!(status(engine.encode_into(&cache, &plan, &mut crooked[1..])), Status::ARGUMENT);
    let other = builder().tokens(Layer::ALL, 0, TOKENS - 1).unwrap();
    let rows = Strides::token_major(HEADS, DIM);
    let other = memory
        .iter()
        .enumerate()
        .fold(other, |b, (l, [k, v])| b.plane(l, Half::K, k, rows).and_then(|b| b.plane(l, Half::V, v, rows)).unwrap());
    assert_eq!(status(engine.encode(&other.build().unwrap(), &plan)), Status::LAYOUT);
}

#[test]
fn values_that_cannot_be_quantized() {
    for (bad, wanted) in [(f16::NAN, Status::NON_FINITE), (f16::INFINITY, Status::NON_FINITE)] {
        let (engine, mut memory) = (engine(), layers());
        memory[1][0][DIM * HEADS * 100 + 5] = bad;
        let cache = source(&memory);
        let mut plan = Plan::new(&engine).unwrap();
        plan.set(PlanKey::UNPROVEN, 1).unwrap();
        plan.set_strategy("uniform-4").and_then(|()| plan.solve(&cache, None)).unwrap();
        assert_eq!(status(engine.encode(&cache, &plan)), wanted);
    }
}

#[test]
fn identity_layout_and_damage_leave_the_destination_untouched() {
    let (engine, memory) = (engine(), layers());
    let rows = Strides::token_major(HEADS, DIM);
    let with = |model: u8, request: u8| {
        let b = builder().identity(Some(&[model; 32]), Some(&[request; 16])).unwrap();
        memory
            .iter()
            .enumerate()
            .fold(b, |b, (l, [k, v])| b.plane(l, Half::K, k, rows).and_then(|b| b.plane(l, Half::V, v, rows)).unwrap())
    };
    let cache = with(1, 2).build().unwrap();
    let mut plan = Plan::new(&engine).unwrap();
    plan.set(PlanKey::UNPROVEN, 1).unwrap();
    plan.set_budget(0.4).unwrap();
    plan.solve(&cache, None).unwrap();
    let payload = engine.encode(&cache, &plan).unwrap();
    assert_eq!(payload.identity().unwrap(), ([1; 32], [2; 16]));
    let mut damaged = payload.bytes().unwrap().to_vec();
    let last = damaged.len() - 40;
    damaged[last] ^= 1;
    let damaged = Payload::open(&damaged).unwrap();
    assert_eq!(status(damaged.verify()), Status::CHECKSUM);
    for (payload, model, request, tokens, wanted) in [
        (&payload, 9, 2, TOKENS, Status::MODEL),
        (&payload, 1, 9, TOKENS, Status::REQUEST),
        (&payload, 1, 2, TOKENS - 8, Status::LAYOUT),
        (&damaged, 1, 2, TOKENS, Status::CHECKSUM),
        (&payload, 1, 0, TOKENS, Status::OK),
    ] {
        let mut got = zeros();
        let b = builder().identity(Some(&[model; 32]), Some(&[request; 16])).unwrap();
        let b = b.tokens(Layer::ALL, 0, tokens).unwrap();
        let b = got.iter_mut().enumerate().fold(b, |b, (l, [k, v])| {
            b.plane_mut(l, Half::K, k, rows).and_then(|b| b.plane_mut(l, Half::V, v, rows)).unwrap()
        });
        assert_eq!(status(engine.decode(payload, &mut b.build_mut().unwrap())), wanted);
        assert_eq!(got == zeros(), wanted != Status::OK, "{wanted} wrote to the destination");
    }
}

/// The project's malformed payloads, each with the status it must give.
#[test]
fn malformed_payloads_give_the_statuses_that_are_written_down() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden");
    let Ok(list) = std::fs::read_to_string(golden.join("malformed.json")) else {
        println!("SKIPPED: {} is not there (the crate alone, without the project)", golden.display());
        return;
    };
    let mut count = 0;
    for entry in list.lines() {
        let Some((name, wanted)) = entry.split_once("\": \"") else { continue };
        let (name, wanted) = (name.trim().trim_start_matches('"'), wanted.trim_end_matches(['"', ',']));
        if !wanted.starts_with("SKV_") {
            continue;
        }
        let bytes = std::fs::read(golden.join("malformed").join(name)).unwrap();
        let got = status(Payload::open(&bytes).and_then(|payload| payload.verify()));
        assert_eq!(got.to_string(), wanted, "{name}");
        count += 1;
    }
    assert!(count > 100, "only {count} of malformed.json were understood");
}
