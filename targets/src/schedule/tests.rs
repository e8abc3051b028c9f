//! Small functions in tile IR: the order of their ops before and after, told by name.

use super::schedule_transfers;
use tilewright_ir::attribute::Attribute;
use tilewright_ir::dialects::tile;
use tilewright_ir::module::{Module, OpId};
use tilewright_ir::parse::{ParseOptions, parse};
use tilewright_ir::registry::Registry;
use tilewright_ir::verify::verify;

/// Two kernels: `y = relu(x)` goes to DRAM; then it is read back (`z`), and a weight `w` is added.
const TWO: &str = r#"
    %0 = "tile.transfer"(%a, %x) <{engine = "dma0", name = "x"}> : (SRAM, memref<64xf32, "io">) -> !tile.token
    "tile.wait"() <{name = "x", operandSegmentSizes = array<i32: 0>}> : () -> ()
    "tile.unary"(%b, %a) <{engine = "vector", function = "relu"}> : (SRAM, SRAM) -> ()
    %1 = "tile.transfer"(%d, %b) <{engine = "dma1", name = "y"}> : (memref<64xf32, "dram">, SRAM) -> !tile.token
    "tile.wait"() <{name = "y", operandSegmentSizes = array<i32: 0>}> : () -> ()
    MIDDLE
    %2 = "tile.transfer"(%c, %d) <{engine = "dma0", name = "z"}> : (SRAM, memref<64xf32, "dram">) -> !tile.token
    %3 = "tile.transfer"(%e, %w) <{engine = "dma0", name = "w"}> : (SRAM, memref<64xf32, "const">) -> !tile.token
    "tile.wait"() <{name = "z", operandSegmentSizes = array<i32: 0>}> : () -> ()
    "tile.wait"() <{name = "w", operandSegmentSizes = array<i32: 0>}> : () -> ()
    "tile.binary"(%c, %c, %e) <{engine = "vector", function = "add"}> : (SRAM, SRAM, SRAM) -> ()
"#;

/// The order of the two kernels with something between them, `<` for starts, `>` for waits; loops by their inside.
fn order(middle: &str, sram_bytes: u64) -> String {
    let buffers = ["a", "b", "c", "e"]
        .map(|name| format!(r#"%{name} = "tile.buffer"() <{{capacity = array<i64: 64>}}> : () -> SRAM"#));
    let text = format!(
        r#""builtin.module"() ({{
  "func.func"() <{{function_type = () -> (), sym_name = "main"}}> ({{
    "tile.register"() <{{maximum = 8 : i64, minimum = 0 : i64, name = "n", role = "scratch"}}> : () -> ()
    %x = "tile.argument"() <{{capacity = array<i64: 64>, name = "x", role = "input"}}> : () -> memref<64xf32, "io">
    %n = "tile.argument"() <{{capacity = array<i64: 1>, name = "n", role = "input"}}> : () -> memref<1xi64, "io">
    %w = "tile.constant"() <{{value = dense<1.0> : tensor<64xf32>}}> : () -> memref<64xf32, "const">
    %d = "tile.buffer"() <{{capacity = array<i64: 64>}}> : () -> memref<64xf32, "dram">
    {}
    {}
    "func.return"() : () -> ()
  }}) : () -> ()
}}) : () -> ()"#,
        buffers.join("\n    "),
        TWO.replace("MIDDLE", middle)
    );
    let text = text.replace("SRAM", r#"memref<64xf32, "sram">"#);
    let module = parse(&text, &Registry::builtin(), &ParseOptions::default());
    let mut module = module.unwrap_or_else(|problems| panic!("{}", problems[0]));
    let function = module.function("main").expect("main");
    schedule_transfers(&mut module, function, &crate::npu_gen3::machine::machine(), sram_bytes);
    assert!(verify(&module).is_empty(), "{}", verify(&module)[0]);
    told(&module, function)
}

/// A loop that fills a buffer.
fn filling(buffer: &str) -> String {
    format!(
        r#""tile.for"() <{{limit = 8 : i64, step = 1 : i64, variable = "i"}}> ({{
      "tile.fill"({buffer}) <{{engine = "vector", value = 0.0 : f64}}> : (SRAM) -> ()
    }}) : () -> ()"#
    )
}

fn told(module: &Module, function: OpId) -> String {
    let mut words = Vec::new();
    module.walk(function, &mut |op| {
        let operation = module.op(op);
        let name = operation.attributes.get("name").and_then(Attribute::as_str).unwrap_or_default();
        if operation.def == &tile::TRANSFER {
            words.push(format!("<{name}"));
        } else if operation.def == &tile::WAIT {
            words.push(format!(">{name}"));
        } else if tile::command_op(operation.def).is_some() || operation.def == &tile::FOR {
            words.push(operation.def.name.trim_start_matches("tile.").to_string());
        }
    });
    words.join(" ")
}

const BEFORE: &str = "<x >x unary <y >y <z <w >z >w binary";
const MUCH: u64 = 1 << 20;

#[test]
fn a_weight_comes_in_while_the_kernel_before_waits_and_what_depends_on_it_does_not() {
    assert_eq!(order("", MUCH), "<x <w >x unary <y >y <z >z >w binary");
}

#[test]
fn lives_grow_as_far_as_there_is_room_only() {
    // Two buffers are alive at once as it is; with the weight there are three from the first wait on, two after the unary.
    assert_eq!(order("", 3 * 256), "<x <w >x unary <y >y <z >z >w binary");
    assert_eq!(order("", 2 * 256), "<x >x unary <y <w >y <z >z >w binary");
    assert_eq!(order("", 256), BEFORE);
}

#[test]
fn loads_pass_loops_and_waits_do_not() {
    assert_eq!(order(&filling("%a"), MUCH), "<x <w >x unary <y >y for fill <z >z >w binary");
}

#[test]
fn nothing_passes_what_touches_its_buffer() {
    assert_eq!(order(&filling("%e"), MUCH), "<x >x unary <y >y for fill <z <w >z >w binary");
}

#[test]
fn nothing_passes_a_register_that_is_set() {
    let middle = r#""tile.set_register"(%n) <{register = "n"}> : (memref<1xi64, "io">) -> ()"#;
    assert_eq!(order(middle, MUCH), "<x >x unary <y >y set_register <z <w >z >w binary");
}
