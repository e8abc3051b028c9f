//! A target as somebody else would write it: a machine and one row of a table, with portable commands only. And what happens when
//! its tiles do not fit, when something has to fall back, and when the memory plan is wrong.

mod common;

use common::run::run;
use common::{Row, compare, compile, inputs, row_module, symbol_options};
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::{core, tile};
use tilewright_ir::dim::{Bindings, Dim, Function};
use tilewright_ir::element::Element;
use tilewright_ir::evaluate;
use tilewright_ir::module::{Module, OpId};
use tilewright_passes::machine::Machine;
use tilewright_targets::check_memory_plan::check_memory_plan;
use tilewright_targets::emit::constants::ConstantPool;
use tilewright_targets::lower::compile_function;
use tilewright_targets::lowering::{Lowering, LoweringContext, PlaceContext, Subject, engine, space};
use tilewright_targets::place::Capacities;
use tilewright_targets::target::{Figures, Target, Targets};

/// Rows that go through on-chip memory at a time.
const TILE_ROWS: i64 = 2;

static MINE: Target = Target {
    name: "mine",
    doc: "One vector engine that knows silu.",
    machine: Figures::Made(|| Machine { name: "mine".into(), sram_bytes: 1 << 10, ..Machine::reference() }),
    copy_engine: engine::HOST,
    evidence: &[],
    lowerings: &[Lowering { subject: Subject::Op(&core::SILU), place: place_silu, lower: lower_silu }],
};

fn place_silu(context: &PlaceContext) -> Result<(), String> {
    match context.operand(0) {
        Some(ty) if ty.element == Element::F32 && ty.rank() == 2 => Ok(()),
        Some(ty) => Err(format!("only f32 matrices fit the vector engine, found {ty}")),
        None => Err("no operand".into()),
    }
}

/// Two buffers: while one is computed on, the next tile is on its way into the other.
fn lower_silu(context: &mut LoweringContext, op: OpId) -> Result<(), String> {
    let x = context.operand(op, 0)?;
    let y = context.destination(context.result(op, 0))?;
    let (rows, columns) = (x.dims[0].clone(), x.dims[1].clone());
    let tile = context.buffer(space::SRAM, x.element, &[Dim::Known(TILE_ROWS), columns])?;
    context.for_loop(&rows, TILE_ROWS, |context, row| {
        let left = Dim::call(Function::Min, &Dim::Known(TILE_ROWS), &(&rows - row));
        let part = tile.slice(0, &Dim::Known(0), &left, 1);
        context.transfer(engine::DMA0, &part, &x.slice(0, row, &left, 1))?;
        let command = context.command(&tile::UNARY, engine::VECTOR).view(&part).view(&part);
        command.attribute("function", "silu").emit()?;
        context.transfer(engine::DMA1, &y.slice(0, row, &left, 1), &part)
    })
}

fn silu(ty: &str) -> Module {
    row_module(&Row { op: "core.silu", operands: &[ty], attributes: "{}", results: &[] })
}

#[test]
fn a_target_is_a_machine_and_a_table() {
    assert_eq!(Targets::builtin().with(&MINE).find("mine").map(|target| target.name), Some("mine"));
    let module = silu("tensor<?x8xf32, [\"p\"]>");
    let (compiled, constants) = compile(&module, &MINE, &symbol_options(), "mine");
    assert_eq!(compiled.placement.rows[0].target, "mine");
    assert!(compiled.placement.require_target("mine").is_ok());
    assert_eq!(compiled.memory.bytes["sram"], 64);
    for rows in [0, 1, 2, 5] {
        let bindings = Bindings::from([("p".into(), rows)]);
        let given = inputs(&module, &[], &bindings, rows as u64);
        let expected = evaluate::run_with(&module, "main", &given, &bindings).expect("evaluates");
        let found = run(&compiled.program, &constants, &given, &bindings, &expected, "mine");
        compare(&found[0], &expected[0], "mine");
    }
}

#[test]
fn a_fallback_has_a_reason_and_can_be_forbidden() {
    let (compiled, _) = compile(&silu("tensor<4x8xf16>"), &MINE, &symbol_options(), "fallback");
    let row = &compiled.placement.rows[0];
    assert_eq!((row.target, row.op.as_str()), ("host", "core.silu"));
    assert!(row.reason.contains("tensor<4x8xf16>"), "{}", row.reason);
    let error = compiled.placement.require_target("mine").expect_err("a fallback");
    assert!(error.what.contains("/test/silu") && error.what.contains("tensor<4x8xf16>"), "{error}");
    assert!(compiled.placement.text().contains("only f32 matrices"), "{}", compiled.placement.text());
    let exp =
        row_module(&Row { op: "core.exp", operands: &["tensor<4xf32>"], attributes: "{}", results: &[] });
    let (compiled, _) = compile(&exp, &MINE, &symbol_options(), "no row");
    assert_eq!(compiled.placement.rows[0].reason, "mine has no lowering for core.exp");
}

#[test]
fn a_tile_that_does_not_fit_is_an_error_with_both_numbers() {
    let machine = MINE.machine();
    let module = silu("tensor<4x500xf32>");
    let result =
        compile_function(&module, "main", &MINE, &machine, &symbol_options(), &mut ConstantPool::new());
    let errors = result.err().expect("4000 bytes do not fit");
    assert!(errors[0].what.contains("4000 bytes needed, 1024 available"), "{}", errors[0]);
    assert!(errors[0].to_string().contains("/test/silu"), "{}", errors[0]);
    assert!(!errors[0].help.is_empty());
}

/// The buffers of a placed module.
fn buffers(module: &Module) -> Vec<OpId> {
    let is_buffer = |op: &OpId| module.op(*op).def == &tile::BUFFER;
    module.all_ops().into_iter().filter(is_buffer).collect()
}

#[test]
fn the_checker_finds_every_buffer_put_on_another_in_use() {
    let row = Row {
        op: "core.attention",
        operands: &["tensor<1x2x3x4xf32>", "tensor<1x2x5x4xf32>", "tensor<1x2x5x4xf32>", "", ""],
        attributes: "{causal = true, scale = 0.5}",
        results: &[],
    };
    let (compiled, _) = compile(&row_module(&row), &MINE, &symbol_options(), "attention");
    let capacities = Capacities::default();
    let main = compiled.placed.function("main").expect("main");
    check_memory_plan(&compiled.placed, main, &capacities).expect("the plan is right");
    // Accumulator, maximum and sum are all in use until the end: any two on one place destroy each other.
    let all = buffers(&compiled.placed);
    assert_eq!(all.len(), 3);
    for from in &all {
        for to in all.iter().filter(|to| *to != from) {
            let mut module = compiled.placed.clone();
            let place = module.op(*to).attributes["offset_bytes"].clone();
            module.op_mut(*from).attributes.insert("offset_bytes".into(), place);
            let error = check_memory_plan(&module, main, &capacities).expect_err("an overlap");
            assert!(error.what.contains("overwritten") || error.what.contains("took its bytes"), "{error}");
        }
    }
}

#[test]
fn the_checker_finds_buffers_outside_their_space_and_without_a_place() {
    let (compiled, _) = compile(&silu("tensor<4x8xf32>"), &MINE, &symbol_options(), "silu");
    let main = compiled.placed.function("main").expect("main");
    let buffer = buffers(&compiled.placed)[0];
    let capacities = Capacities { sram_bytes: Some(1024), accumulator_bytes: None };
    let mut module = compiled.placed.clone();
    module.op_mut(buffer).attributes.insert("offset_bytes".into(), Attribute::Int(1000));
    let error = check_memory_plan(&module, main, &capacities).expect_err("outside");
    assert!(error.what.contains("ends at byte 1064"), "{error}");
    module.op_mut(buffer).attributes.remove("offset_bytes");
    let error = check_memory_plan(&module, main, &capacities).expect_err("no place");
    assert!(error.what.contains("no place"), "{error}");
}
