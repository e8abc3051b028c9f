//! What the user is told of wrong text and of wrong modules: one row per fault, with the place, the expected and the found.

use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::parse::{ParseOptions, parse};
use tilewright_ir::registry::Registry;
use tilewright_ir::verify::verify;

const OPTIONS: ParseOptions<'static> =
    ParseOptions { file: "t", first_line: 0, file_locations: true, resources: None, stand_in_seed: None };

/// One line per problem: `line:column what | help`.
fn lines(problems: &[Diagnostic]) -> Vec<String> {
    let line = |problem: &Diagnostic| {
        let place = problem.location.to_string().replace("\"t\":", "");
        let help = if problem.help.is_empty() { String::new() } else { format!(" | {}", problem.help) };
        format!("{place} {}{help}", problem.what)
    };
    problems.iter().map(line).collect()
}

fn parse_errors(text: &str) -> Vec<String> {
    parse(text, &Registry::builtin(), &OPTIONS).map_or_else(|problems| lines(&problems), |_| Vec::new())
}

#[test]
fn the_reader_says_what_it_expected() {
    let rows: &[(&str, &str)] = &[
        ("\"core.mul\"(", "1:12 expected a value, found the end of the text"),
        ("\"core.mull\"() : () -> ()", "1:1 op 'core.mull' is not registered | did you mean 'core.mul'?"),
        (
            "func.func @main() {}",
            "1:1 expected an op in quotes, found 'func.func' | only MLIR's generic form is read: print with --mlir-print-op-generic",
        ),
        ("%0 = \"core.neg\"(%x) : (tensor<4xf32>) -> tensor<4xf32>", "1:17 value '%x' is not defined"),
        ("\"core.neg\"() : (i1) -> ()", "1:16 the op has 0 operands, but its type has 1"),
        ("%0:2 = \"core.neg\"() : () -> i1", "1:23 the op names 2 results, but its type has 1"),
        ("%0:0 = \"core.neg\"() : () -> i1", "1:4 a result pack has at least one result"),
        (
            "\"core.neg\"() : () -> tensor<?xf32>",
            "1:22 expected an expression for each '?': 1 '?' and 0 expressions | write the expressions as tensor<?x4xf32, [\"seq\"]>",
        ),
        (
            "\"core.neg\"() : () -> tensor<?xf32, [\"a +\"]>",
            "1:37 cannot read dimension 'a +': expected a name or a number at byte 3",
        ),
        ("\"core.neg\"() : () -> tensor<?xf32, [\"1 - 2\"]>", "1:22 a dimension is at least 0, found -1"),
        ("\"core.neg\"() : () -> tensor<4yf32>", "1:29 expected 'x' after a dimension"),
        ("\"core.neg\"() : () -> tensor<4xf33>", "1:31 expected a type, found 'f33'"),
        ("\"core.neg\"() : () -> !t", "1:22 '!t' is not defined"),
        ("\"core.neg\"() {a = #m} : () -> ()", "1:19 '#m' is not defined"),
        ("#m = [#m]\n", "1:7 '#m' stands for itself"),
        ("#m = 1\n#m = 2\n", "2:1 '#m' is defined twice"),
        ("\"core.neg\"() {a = 1, a = 2} : () -> ()", "1:22 attribute 'a' is given twice"),
        (
            "\"core.neg\"() {a = 99999999999999999999} : () -> ()",
            "1:19 99999999999999999999 does not fit 64 bits",
        ),
        (
            "\"core.neg\"() {a = \"x} : () -> ()",
            "1:19 expected an attribute, found '\"x} : () -> ()' (the string is not closed on its line)",
        ),
        (
            "\"core.neg\"() {a = \"\\q\"} : () -> ()",
            "1:19 the string \"\\q\" has an escape that is not '\\\\', '\\\"', '\\n', '\\t' or the two hexadecimal digits of UTF-8",
        ),
        (
            "\"core.neg\"() {a = array<f32: 1.0>} : () -> ()",
            "1:25 expected array<i64: ..> or array<i32: ..>, found array<f32>",
        ),
        (
            "\"core.neg\"() {a = dense<[1, 2]> : tensor<3xi8>} : () -> ()",
            "1:19 the list does not fit its type tensor<3xi8>: found sizes [2] (2 numbers)",
        ),
        (
            "\"core.neg\"() {a = dense<[[1], [2, 3]]> : tensor<3xi8>} : () -> ()",
            "1:31 expected a list of 1, found 2",
        ),
        ("\"core.neg\"() {a = dense<300> : tensor<3xi8>} : () -> ()", "1:25 300 is not a number of type i8"),
        (
            "\"core.neg\"() {a = dense<\"0x01\"> : tensor<3xi16>} : () -> ()",
            "1:19 tensor<3xi16> takes 6 bytes, found 1",
        ),
        (
            "\"core.neg\"() {a = dense<1> : tensor<99999999999xi16>} : () -> ()",
            "1:30 tensor<99999999999xi16> takes more than 64 MiB | constants this large are weights: dense_resource<name>",
        ),
        (
            "\"core.neg\"() {a = dense_resource<w$$0123456789abcdef> : tensor<3xi16>} : () -> ()",
            "1:34 weight 'w' is not known | read the text together with the model it was printed from",
        ),
        (
            "\"core.neg\"() {a = dense_resource<__elided__> : tensor<3xi16>} : () -> ()",
            "1:34 the numbers of this constant were left out when the text was printed | print without eliding",
        ),
        (
            "\"core.neg\"() {a = affine_map<(d0) -> (d0)>} : () -> ()",
            "1:19 attributes of the form 'affine_map' are not supported",
        ),
        ("\"core.neg\"() {a = @a::@b} : () -> ()", "1:21 nested symbols ('@a::@b') are not supported"),
        ("\"core.neg\"() : () -> () loc(\"a\":1)", "1:34 expected ':', found ')'"),
        ("\"core.neg\"()[^bb1] : () -> ()", "1:14 an op of the module has no successors"),
        (
            "\"core.if\"() ({ \"core.yield\"()[^no] : () -> () }, {}) : () -> ()",
            "1:31 block '^no' is not defined",
        ),
        ("\"core.if\"() ({^a:\n^a:\n}) : () -> ()", "2:1 block '^a' is defined twice"),
        ("\"builtin.module\"() ({\n  ^bb0:\n}) : () -> i1", "3:6 a module has no operands and no results"),
        ("}", "1:1 expected an op, found '}'"),
    ];
    let wrong: Vec<_> = rows.iter().filter(|(text, expected)| parse_errors(text) != [*expected]).collect();
    let found: Vec<_> = wrong.iter().map(|(text, _)| parse_errors(text)).collect();
    assert!(wrong.is_empty(), "expected {wrong:#?}\nfound {found:#?}");
}

#[test]
fn each_function_gives_its_first_error() {
    let text = r#"
"builtin.module"() ({
  "func.func"() <{function_type = () -> (), sym_name = "a"}> ({
    "core.nothing"() : () -> ()
    "core.nothing_more"() : () -> ()
    "func.return"() : () -> ()
  }) : () -> ()
  "func.func"() <{function_type = () -> (), sym_name = "b"}> ({
    "func.return"() : () -> ()
  }) : () -> ()
  "func.func"() <{function_type = () -> (), sym_name = "c"}> ({
    "func.return"(%x) : (tensor<4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;
    assert_eq!(
        parse_errors(text),
        [
            "4:5 op 'core.nothing' is not registered | did you mean 'core.not'?",
            "12:19 value '%x' is not defined"
        ]
    );
}

#[test]
fn definitions_and_uses_must_agree() {
    let text = |op: &str| {
        format!(
            "%a = \"core.size\"() <{{value = 3 : i64}}> : () -> tensor<i64>\n{op} : (tensor<i64>) -> tensor<i64>"
        )
    };
    assert_eq!(parse_errors(&text("%a = \"core.neg\"(%a)")), ["2:1 '%a' is defined twice"]);
    assert_eq!(parse_errors(&text("%b = \"core.neg\"(%a#1)")), ["2:17 '%a' has 1 results, found '#1'"]);
    let other = text("%b = \"core.neg\"(%a)").replace(": (tensor<i64>)", ": (tensor<i32>)");
    assert_eq!(parse_errors(&other), ["2:17 '%a' differs in type: expected tensor<i64>, found tensor<i32>"]);
    let forward = "%b = \"core.neg\"(%a) : (tensor<i32>) -> tensor<i32>\n%a = \"core.size\"() <{value = 3 : i64}> : () -> tensor<i64>";
    assert_eq!(parse_errors(forward), ["1:17 '%a' differs in type: expected tensor<i64>, found tensor<i32>"]);
}

fn verify_errors(body: &str) -> Vec<String> {
    let text = format!(
        "\"func.func\"() <{{function_type = (tensor<4xf32>, tensor<i1>) -> tensor<4xf32>, sym_name = \"main\"}}> ({{\n\
         ^bb0(%x: tensor<4xf32>, %c: tensor<i1>):\n{body}\n}}) : () -> ()"
    );
    let module = parse(&text, &Registry::builtin(), &OPTIONS)
        .unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    lines(&verify(&module))
}

const T: &str = "(tensor<4xf32>) -> tensor<4xf32>";
const RETURN: &str = "\"func.return\"(%x) : (tensor<4xf32>) -> ()";

#[test]
fn the_verifier_finds_faults_of_one_op() {
    let rows: &[(String, &str)] = &[
        (format!("%y = \"core.add\"(%x) : {T}"), "3:1 'core.add': expected 2 operands, found 1"),
        (
            "\"core.neg\"(%x) : (tensor<4xf32>) -> ()".to_string(),
            "3:1 'core.neg': expected 1 results, found 0",
        ),
        (
            "%y = \"core.neg\"(%x) : (tensor<4xf32>) -> tensor<5xf32>".into(),
            "3:1 'core.neg': result 0 differs in type: expected tensor<4xf32>, found tensor<5xf32>",
        ),
        (
            format!("%y = \"core.gelu\"(%x) : {T}"),
            "3:1 'core.gelu': expected attribute 'approximate' (one of \"none\", \"tanh\"), found none",
        ),
        (
            format!("%y = \"core.gelu\"(%x) <{{approximate = \"tan\"}}> : {T}"),
            "3:1 'core.gelu': attribute 'approximate' must be one of \"none\", \"tanh\", found \"tan\"",
        ),
        (
            format!("%y = \"core.softmax\"(%x) <{{axis = 0.5}}> : {T}"),
            "3:1 'core.softmax': attribute 'axis' must be an integer, 1 : i64, found 5.000000e-01 : f64",
        ),
        (
            format!("%y = \"core.softmax\"(%x) <{{axis = 0, axes = 1}}> : {T}"),
            "3:1 'core.softmax': attribute 'axes' is not known to the op: did you mean 'axis'?",
        ),
        (
            "%y = \"core.neg\"(%c) : (tensor<i1>) -> tensor<i1>".into(),
            "3:1 'core.neg': operand 'x' must be a tensor of numbers, found tensor<i1>",
        ),
        (
            format!("%y = \"core.pad\"(%x) <{{high = [0], low = [0], mode = \"edge\"}}> : {T}"),
            "3:1 'core.pad': expected attribute 'operandSegmentSizes' = array<i32: 1, 1> or the like, found none",
        ),
        (
            format!(
                "%y = \"core.pad\"(%x) <{{high = [0], low = [0], mode = \"edge\", operandSegmentSizes = array<i32: 1>}}> : {T}"
            ),
            "3:1 'core.pad': 'operandSegmentSizes' has 1 sizes: expected 2",
        ),
        (
            format!("%y = \"core.neg\"(%x) ({{\n^bb0:\n}}) : {T}"),
            "3:1 'core.neg': a block is empty: expected a terminator",
        ),
    ];
    for (body, expected) in rows {
        let found = verify_errors(&format!("{body}\n{RETURN}"));
        assert!(found.contains(&expected.to_string()), "{body}\n{found:#?}\nexpected {expected}");
    }
}

#[test]
fn the_verifier_finds_faults_of_structure() {
    let rows: &[(String, &str)] = &[
        (RETURN.replace("func.return", "core.yield"), "3:1 'core.yield': a function ends with 'func.return'"),
        (
            format!("%y = \"core.neg\"(%x) : {T}"),
            "3:1 'core.neg': the last op of a block must be a terminator",
        ),
        (format!("{RETURN}\n{RETURN}"), "3:1 'func.return': a terminator must be the last op of its block"),
        (
            "\"func.return\"() : () -> ()".into(),
            "3:1 'func.return': 'function_type' and the returned values differ in number: 1 and 0",
        ),
        (
            "\"func.return\"(%c) : (tensor<i1>) -> ()".into(),
            "3:1 'func.return': 'function_type' and the returned values differ at 0: tensor<4xf32> and tensor<i1>",
        ),
        (
            format!("%y = \"core.neg\"(%z) : {T}\n%z = \"core.neg\"(%x) : {T}\n{RETURN}"),
            "3:1 'core.neg': operand 0 (%z) is used before it is defined",
        ),
        (
            format!(
                "%y = \"core.kernel\"(%x) <{{kind = \"neg\", name = \"k\"}}> ({{\n^bb0(%a: tensor<4xf32>):\n%b = \"core.neg\"(%a) : {T}\n\"core.yield\"(%b) : (tensor<4xf32>) -> ()\n}}) : {T}\n{RETURN}"
            ),
            "",
        ),
        (
            format!(
                "%y = \"core.if\"(%c) ({{\n\"core.yield\"(%x) : (tensor<4xf32>) -> ()\n}}) : (tensor<i1>) -> tensor<4xf32>\n{RETURN}"
            ),
            "3:1 'core.if': expected 2 regions, found 1",
        ),
        (
            format!(
                "\"core.yield\"()[^bb2] : () -> ()\n^bb1:\n%y = \"core.neg\"(%x) : {T}\n\"core.yield\"()[^bb2] : () -> ()\n^bb2:\n\"func.return\"(%y) : (tensor<4xf32>) -> ()"
            ),
            "8:1 'func.return': operand 0 (%y) is defined in a block that does not dominate its use",
        ),
        (
            format!(
                "%y = \"core.if\"(%c) ({{\n\"core.yield\"(%x) : (tensor<4xf32>) -> ()\n}}, {{\n\"core.yield\"(%c) : (tensor<i1>) -> ()\n}}) : (tensor<i1>) -> tensor<4xf32>\n{RETURN}"
            ),
            "3:1 'core.if': region 1: yielded value 0 differs in type: expected tensor<4xf32>, found tensor<i1>",
        ),
        (
            format!(
                "%y = \"core.kernel\"(%x) <{{kind = \"neg\", name = \"k\"}}> ({{\n\"core.yield\"() : () -> ()\n}}) : {T}\n{RETURN}"
            ),
            "3:1 'core.kernel': expected 1 arguments, found 0",
        ),
    ];
    for (body, expected) in rows {
        let found = verify_errors(body);
        let right =
            if expected.is_empty() { found.is_empty() } else { found.contains(&expected.to_string()) };
        assert!(right, "{body}\n{found:#?}\nexpected {expected}");
    }
}

#[test]
fn the_verifier_finds_faults_between_functions() {
    let function = "\"func.func\"() <{function_type = () -> (), sym_name = \"a\"}> ({\n\"func.return\"() : () -> ()\n}) : () -> ()\n";
    let module = parse(&function.repeat(2), &Registry::builtin(), &OPTIONS).expect("reads");
    assert_eq!(lines(&verify(&module)), ["4:1 'func.func': symbol '@a' is defined twice"]);
    let text =
        "\"func.func\"() <{arg_attrs = [{}], function_type = (i1) -> i1, sym_name = \"a\"}> ({}) : () -> ()";
    let module = parse(text, &Registry::builtin(), &OPTIONS).expect("reads");
    assert_eq!(lines(&verify(&module)), ["1:1 'func.func': expected a block in every region, found none"]);
}

#[test]
fn the_verifier_finds_faults_that_text_cannot_hold() {
    let text = format!(
        "\"func.func\"() <{{function_type = {T}, sym_name = \"a\"}}> ({{\n^bb0(%x: tensor<4xf32>):\n%y = \"core.neg\"(%x) : {T}\n{}\n}}) : () -> ()",
        "\"func.return\"(%y) : (tensor<4xf32>) -> ()"
    );
    let module = parse(&text, &Registry::builtin(), &OPTIONS).expect("reads");
    let block = module.entry(module.functions()[0], 0);
    let (neg, ret) = (module.block(block).ops[0], module.block(block).ops[1]);
    let changed = |change: &dyn Fn(&mut tilewright_ir::module::Module)| {
        let mut module = module.clone();
        change(&mut module);
        lines(&verify(&module))
    };
    assert_eq!(changed(&|_| ()), [""; 0]);
    let unlisted = changed(&|module| {
        let value = module.result(neg);
        module.value_mut(value).users.clear();
    });
    assert_eq!(unlisted, ["3:1 'core.neg': the use list of %y has 0 uses, found 1"]);
    let lost = changed(&|module| module.op_mut(neg).parent = None);
    assert_eq!(lost, ["3:1 'core.neg': the op does not know the block that lists it"]);
    let gone = changed(&|module| module.detach(neg));
    assert!(
        gone.contains(
            &"4:1 'func.return': operand 0 (%y) is a result of an op that was taken out".to_string()
        ),
        "{gone:?}"
    );
    let named = changed(&|module| {
        let value = module.op(ret).operands[0];
        let dim = tilewright_ir::dim::Dim::symbol("no name");
        let ty = tilewright_ir::types::TensorType::new(tilewright_ir::element::Element::F32, [dim]);
        module.value_mut(value).ty = ty.into();
    });
    assert!(
        named.iter().any(|line| line.ends_with("dimension 'no name' does not read back as it is written")),
        "{named:?}"
    );
}
