//! Text in, text out: what is printed reads back to the same text, for hand-written and for made-up modules, and no damage to a
//! text makes the reader, the verifier or the printer panic.

use proptest::prelude::*;
use tilewright_ir::attribute::{Attribute, Attributes, Elements, Resource};
use tilewright_ir::dialects::builtin;
use tilewright_ir::dim::Dim;
use tilewright_ir::element::Element;
use tilewright_ir::location::Location;
use tilewright_ir::module::Module;
use tilewright_ir::op_def::{OpDef, Traits, TypeRule, variadic};
use tilewright_ir::parse::{ParseOptions, Resources, parse};
use tilewright_ir::print::{PrintOptions, print};
use tilewright_ir::registry::{Dialect, Registry};
use tilewright_ir::types::{TensorType, Type, ViewType};
use tilewright_ir::verify::verify;

/// Takes and gives anything.
static ANY: OpDef = OpDef {
    name: "test.any",
    operands: &[variadic("operands", TypeRule::Any)],
    results: &[variadic("results", TypeRule::Any)],
    regions: 1,
    traits: Traits::NO_TERMINATOR,
    ..OpDef::DEFAULT
};
/// Goes to other blocks.
static BRANCH: OpDef = OpDef {
    name: "test.branch",
    operands: &[variadic("operands", TypeRule::Any)],
    traits: Traits::TERMINATOR,
    ..OpDef::DEFAULT
};
static DIALECT: Dialect = Dialect { name: "test", doc: "For tests.", ops: &[&ANY, &BRANCH] };

fn registry() -> Registry {
    Registry::builtin().with(&DIALECT)
}

const STAND_INS: ParseOptions<'static> = ParseOptions {
    file: "t.mlir",
    first_line: 0,
    file_locations: false,
    resources: None,
    stand_in_seed: Some(7),
};

const WITH_LOCATIONS: PrintOptions = PrintOptions { locations: true, hashes: true, elide_above: None };

/// Text that holds every form once.
const SAMPLE: &str = r#"#small = dense<[[1, -2], [3, 4]]> : tensor<2x2xi8>
!row = tensor<1x?xf32, ["past + seq"]>
"builtin.module"() <{sym_name = "m"}> ({
  "func.func"() <{arg_attrs = [{tw.name = "x"}, {}], function_type = (!row, tensor<i1>) -> !row, sym_name = "main"}> ({
  ^bb0(%x: !row, %c: tensor<i1> loc("c")):
    %w = "core.constant"() <{value = dense_resource<model.w$$0123456789abcdef> : tensor<4x4xf16>}> : () -> tensor<4x4xf16> loc(#loc1)
    %s = "core.constant"() <{value = #small}> {tw.note = "a\22\\\0A\C3\A9"} : () -> tensor<2x2xi8> loc("s"("f":1:2))
    %n = "core.constant"() <{value = #core.dense<tensor<3x!core.nf4>, "0x1203">}> : () -> tensor<3x!core.nf4>
    %h = "core.constant"() <{value = dense<[5.000000e-02, 0x7FC00000, -0.000000e+00, 9.99999997E-7]> : tensor<4xf32>}> : () -> tensor<4xf32>
    %t:2 = "test.any"(%x) ({
    ^bb0(%a: tensor<4xf32>):
      "test.branch"(%a)[^bb1, ^bb2] : (tensor<4xf32>) -> ()
    ^bb1:  // pred: ^bb0
      %later = "core.neg"(%a) : (tensor<4xf32>) -> tensor<4xf32>
      "test.branch"(%later)[^bb2] : (tensor<4xf32>) -> ()
    ^bb2:
      "test.branch"() : () -> ()
    }) {tw.list = [1, 0x7FF0000000000000 : f64, 2.500000e+00, "x", @y, array<i64: 1, -2>, unit, {a, b = 1 : i64}, tensor<4xf32>]} : (!row) -> (tensor<4xf32>, tensor<4xi64>)
    %i = "core.if"(%c) ({
      "core.yield"(%x) : (!row) -> ()
    }, {
      %e = "core.exp"(%x) : (!row) -> !row
      "core.yield"(%e) : (!row) -> ()
    }) : (tensor<i1>) -> !row loc(fused<"rule">["a", #loc1, unknown])
    %v = "test.any"(%t#1) ({
    }) : (tensor<4xi64>) -> memref<4x?xi4, {dims = ["seq"], element = !core.nf4, space = "sram"}>
    %z = "test.any"(%v) ({}) : (memref<4x?xi4, {dims = ["seq"], element = !core.nf4, space = "sram"}>) -> !tile.token<"a>", 3>
    "func.return"(%i) : (!row) -> ()
  }) {tw.opset = 13 : i64} : () -> ()
}) : () -> ()
#loc1 = loc("/model/layers.0/mlp")
"#;

fn assert_fixpoint(module: &Module, options: &PrintOptions) -> String {
    let resources = Resources::of(module);
    let parse_options = ParseOptions { resources: Some(&resources), ..STAND_INS };
    let first = print(module, options);
    let again = match parse(&first, &registry(), &parse_options) {
        Ok(again) => again,
        Err(problems) => panic!("does not read back: {problems:?}\n{first}"),
    };
    assert_eq!(print(&again, options), first);
    first
}

#[test]
fn the_sample_is_well_formed_and_a_fixpoint() {
    let module = parse(SAMPLE, &registry(), &STAND_INS).expect("the sample reads");
    assert_eq!(verify(&module), []);
    let text = assert_fixpoint(&module, &WITH_LOCATIONS);
    for part in [
        "%w = \"core.constant\"() <{value = dense_resource<model.w$$0123456789abcdef> : tensor<4x4xf16>}>",
        "loc(\"/model/layers.0/mlp\")",
        "%t:2 = \"test.any\"(%x) ({\n    ^bb0(%a: tensor<4xf32>):\n",
        "\"test.any\"(%t#1) ({\n    ^bb0:\n    })",
        "{tw.note = \"a\\22\\\\\\0A\\C3\\A9\"}",
        "loc(fused<\"rule\">[\"a\", \"/model/layers.0/mlp\", unknown])",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// SplitMix64: the same damage on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

fn damaged(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            let start = random.below(bytes.len());
            let end = (start + random.below(40)).min(bytes.len());
            bytes.drain(start..end);
        }
        2 => {
            // A piece once more, somewhere else.
            let start = random.below(bytes.len());
            let piece = bytes[start..(start + random.below(60)).min(bytes.len())].to_vec();
            let at = random.below(bytes.len());
            bytes.splice(at..at, piece);
        }
        3 => {
            let word = [
                "<",
                ">",
                "\"",
                "{",
                "(",
                "%",
                "-",
                "0x",
                "99999999999999999999",
                "\\",
                "#",
                "loc(",
                "é",
                "\n",
            ];
            let at = random.below(bytes.len());
            bytes.splice(at..at, word[random.below(word.len())].bytes());
        }
        _ => {
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_text_never_panics() {
    let registry = registry();
    let mut random = Random(1);
    let mut read = 0;
    for case in 0..20_000 {
        let text = damaged(SAMPLE, &mut random);
        let outcome = std::panic::catch_unwind(|| match parse(&text, &registry, &STAND_INS) {
            Ok(module) => {
                verify(&module);
                assert_fixpoint(&module, &WITH_LOCATIONS);
                true
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                assert!(problems.iter().all(|problem| matches!(problem.location, Location::File(..))));
                false
            }
        });
        match outcome {
            Ok(ok) => read += usize::from(ok),
            Err(_) => panic!("case {case}:\n{text}"),
        }
    }
    // Damage in names, numbers and comments alone still reads: both ways are taken.
    assert!((500..19_500).contains(&read), "{read} of 20000 read");
}

#[test]
fn deep_nesting_is_an_error() {
    let registry = registry();
    for (open, close) in [("[", "]"), ("{a = ", "}")] {
        let value = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let text = format!("\"test.any\"() ({{}}) {{tw.a = {value}}} : () -> ()");
        assert!(parse(&text, &registry, &STAND_INS).is_err());
    }
    let text = "\"test.any\"() ({\n".repeat(100_000);
    assert!(parse(&text, &registry, &STAND_INS).is_err());
    let text = format!("\"test.any\"() ({{}}) : () -> {}", "(".repeat(100_000));
    assert!(parse(&text, &registry, &STAND_INS).is_err());
    let dims = format!("\"test.any\"() ({{}}) : () -> tensor<?xf32, [\"{}\"]>", "(".repeat(100_000));
    assert!(parse(&dims, &registry, &STAND_INS).is_err());
}

#[test]
fn aliases_cannot_grow_without_bound() {
    let mut text = String::from("#a0 = [1, 1]\n");
    for level in 1..60 {
        let below = level - 1;
        text.push_str(&format!("#a{level} = [#a{below}, #a{below}]\n"));
    }
    text.push_str("\"test.any\"() ({}) {tw.a = #a59} : () -> ()\n");
    let problems = parse(&text, &registry(), &STAND_INS).expect_err("2^60 numbers");
    assert!(problems[0].what.contains("too many attributes"), "{problems:?}");
    let product = "(a + b + c + d + e + f + g + h)*".repeat(40);
    let text = format!("\"test.any\"() ({{}}) : () -> tensor<?xf32, [\"{product}a\"]>");
    assert!(parse(&text, &registry(), &STAND_INS).is_err());
}

fn dims() -> impl Strategy<Value = Dim> + Clone {
    prop_oneof![
        4 => (0i64..5).prop_map(Dim::Known),
        1 => proptest::sample::select(vec!["seq", "past + seq", "2*seq - 1", "floordiv(seq + 3, 4)", "max(a, b)*c"])
            .prop_map(|text| text.parse().expect("a dimension")),
    ]
}

fn elements() -> impl Strategy<Value = Element> {
    proptest::sample::select(Element::ALL.to_vec())
}

fn types() -> impl Strategy<Value = Type> {
    let shape = proptest::collection::vec(dims(), 0..4);
    let leaf = prop_oneof![
        4 => (elements(), shape.clone()).prop_map(|(element, shape)| Type::Tensor(TensorType::new(element, shape))),
        2 => (elements(), shape, "[a-z\"\\\\ é]{0,5}").prop_map(|(element, shape, space)| {
            Type::View(ViewType { element, shape: shape.into_iter().collect(), space })
        }),
        1 => Just(Type::Index),
        1 => elements().prop_map(Type::Scalar),
        1 => Just(Type::Opaque("tile.token".into())),
        1 => Just(Type::Opaque("tile.view<(1, [\"a>\"]) -> x>".into())),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let list = proptest::collection::vec(inner, 0..3);
        (list.clone(), list).prop_map(|(inputs, results)| Type::Function(inputs, results))
    })
}

fn constants() -> impl Strategy<Value = Attribute> {
    let shape = prop_oneof![proptest::collection::vec(0i64..4, 0..3), Just(vec![103])];
    (elements(), shape, any::<u64>(), any::<bool>(), "[a-zA-Z0-9/:._$é]{0,8}").prop_map(
        |(element, shape, seed, resource, name)| {
            let count: i64 = shape.iter().product();
            let mut random = Random(seed);
            let mut bytes: Vec<u8> =
                (0..element.bytes_of(count as usize)).map(|_| random.below(256) as u8).collect();
            if element == Element::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            // Bits past the last element are zero.
            let used = count as usize * element.bits() % 8;
            if let Some(last) = bytes.last_mut().filter(|_| used > 0) {
                *last &= (1 << used) - 1;
            }
            let ty = TensorType::of(element, &shape);
            Attribute::Elements(match resource {
                true => Elements::Resource(Resource::new(&name, ty, bytes.into()).into()),
                false => Elements::Dense(ty, bytes.into()),
            })
        },
    )
}

fn attributes() -> impl Strategy<Value = Attribute> {
    let leaf = prop_oneof![
        Just(Attribute::Unit),
        any::<bool>().prop_map(Attribute::Bool),
        any::<i64>().prop_map(Attribute::Int),
        any::<f64>().prop_map(Attribute::float),
        any::<u64>().prop_map(|bits| Attribute::float(f64::from_bits(bits))),
        any::<String>().prop_map(|text| Attribute::str(&text)),
        "(?s).{1,8}".prop_map(|text| Attribute::Symbol(text.as_str().into())),
        types().prop_map(Attribute::Type),
        proptest::collection::vec(any::<i64>(), 0..4).prop_map(|values| Attribute::ints(&values)),
        proptest::collection::vec(any::<i32>(), 0..4).prop_map(|values| Attribute::Segments(values.into())),
        constants(),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| Attribute::Array(items.into())),
            proptest::collection::vec(("(?s).{1,8}", inner), 0..3).prop_map(|entries| {
                let entries: Attributes =
                    entries.into_iter().map(|(name, value)| (name.into(), value)).collect();
                Attribute::Dict(entries.into())
            }),
        ]
    })
}

fn locations() -> impl Strategy<Value = Location> {
    let leaf = prop_oneof![
        Just(Location::Unknown),
        any::<String>().prop_map(|name| Location::Name(name.as_str().into())),
        (any::<String>(), any::<u32>(), any::<u32>()).prop_map(|(name, line, column)| Location::File(
            name.as_str().into(),
            line,
            column
        )),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        (proptest::option::of(any::<String>()), proptest::collection::vec(inner, 0..3))
            .prop_map(|(tag, parts)| Location::Fused(tag.map(|tag| tag.as_str().into()), parts.into()))
    })
}

/// One op of a made-up module: where its operands come from, results with names, attributes, location, and whether the next ops
/// go into its region.
type Row = (Vec<usize>, Vec<(Type, Option<String>)>, Vec<(String, Attribute)>, Location, bool);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let results = proptest::collection::vec((types(), proptest::option::of("[a-z0-9/ é]{0,3}")), 0..4);
    let entries = proptest::collection::vec(("[a-z.]{1,5}", attributes()), 0..3);
    let row = (proptest::collection::vec(0usize..16, 0..4), results, entries, locations(), any::<bool>());
    proptest::collection::vec(row, 0..12)
}

fn build(rows: Vec<Row>) -> Module {
    let mut module = Module::new();
    let body = module.body();
    let function = module.create_op(&builtin::FUNCTION, &[], Attributes::new(), &[], Location::Unknown);
    let region = module.add_region(function);
    let mut block = module.add_block(region, &[Type::Index, Type::tensor(Element::F32, &[4])]);
    module.append(body, function);
    let mut values = module.block(block).arguments.clone();
    for (operands, results, entries, location, enter) in rows {
        let operands: Vec<_> = operands.into_iter().map(|at| values[at % values.len()]).collect();
        let types: Vec<Type> = results.iter().map(|row| row.0.clone()).collect();
        let entries = entries.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let op = module.create_op(&ANY, &operands, entries, &types, location);
        for ((_, name), value) in results.into_iter().zip(module.op(op).results.clone()) {
            module.value_mut(value).name = name.map(|name| name.as_str().into());
            values.push(value);
        }
        module.append(block, op);
        let inner = module.add_region(op);
        let inner = module.add_block(inner, &[]);
        if enter {
            block = inner;
            // Results of an op are not seen inside it.
            let results = module.op(op).results.len();
            values.truncate(values.len() - results);
        }
    }
    module
}

#[test]
fn weights_of_one_name_read_back_wherever_they_are() {
    let weight = |byte: u8| {
        let ty = TensorType::new(Element::I8, [Dim::Known(1)]);
        Attribute::Elements(Elements::Resource(Resource::new("w", ty, vec![byte].into()).into()))
    };
    let array = Attribute::Array([weight(2)].into());
    let inner = Attributes::from([("a".into(), array)]);
    let mut module = Module::new();
    let body = module.body();
    let attributes = Attributes::from([("a".into(), weight(1)), ("b".into(), Attribute::Dict(inner.into()))]);
    let op = module.create_op(&ANY, &[], attributes, &[], Location::Unknown);
    module.append(body, op);
    assert_fixpoint(&module, &WITH_LOCATIONS);
}

#[test]
fn weights_without_a_name_and_with_an_underscore_are_told_apart() {
    use tilewright_ir::print::{resource_key, split_resource_key};
    for name in ["", "_", "__", "_$", "$", "_5F"] {
        let ty = TensorType::new(Element::I8, [Dim::Known(1)]);
        let key = resource_key(&Resource::new(name, ty, vec![1].into()), true);
        assert_eq!(split_resource_key(&key).0, name, "{key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn made_up_modules_are_fixpoints(rows in rows()) {
        assert_fixpoint(&build(rows), &WITH_LOCATIONS);
    }

    #[test]
    fn types_and_attributes_read_back_equal(ty in types(), attribute in attributes()) {
        let read = tilewright_ir::parse::parse_type(&ty.to_string());
        prop_assert_eq!(read.as_ref(), Ok(&ty));
        // NaNs of the small formats share one text; weights need a table. Text equality covers both.
        let text = attribute.to_string();
        if !text.contains("dense_resource") {
            let again = tilewright_ir::parse::parse_attribute(&text).expect("reads back");
            prop_assert_eq!(again.to_string(), text);
        }
    }

    #[test]
    fn locations_read_back_equal(location in locations()) {
        let read = tilewright_ir::parse::parse_location(&location.to_string());
        prop_assert_eq!(read.as_ref(), Ok(&location));
    }

    #[test]
    fn any_text_is_refused_or_read(text in any::<String>()) {
        if let Ok(module) = parse(&text, &registry(), &STAND_INS) {
            assert_fixpoint(&module, &WITH_LOCATIONS);
        }
    }
}
