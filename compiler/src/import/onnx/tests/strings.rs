//! What the import makes of strings, run in the evaluator and held against the standard library.

use super::build::*;
use crate::import::onnx::import_bytes;
use crate::import::onnx::schema::{AttributeProto, ModelProto, NodeProto, TensorProto};
use crate::import::{Imported, Options};
use crate::signature::Signature;
use crate::strings::{decode, encode, shortened};
use prost::Message;
use tilewright_ir::evaluate;
use tilewright_ir::tensor::Tensor;

/// Letters that are mapped in all the ways there are, and signs that stand within words.
const LETTERS: &[char] = &[
    'a',
    'Z',
    ' ',
    '.',
    '\'',
    'ß',
    'Σ',
    'σ',
    'ς',
    'İ',
    'ı',
    'ǅ',
    'ΐ',
    'ﬃ',
    'É',
    'Ж',
    '日',
    '𐐀',
    '🦀',
    '\u{301}',
    '\u{ad}',
    '\u{e0100}',
    'ʰ',
    '\u{10ffff}',
    'ᾳ',
    'Ⅷ',
    'ⓐ',
];

fn run(imported: &Imported, inputs: &[Tensor]) -> Vec<Tensor> {
    let signature = Signature::of(&imported.module, imported.module.functions()[0]);
    shortened(&signature.outputs, evaluate::run(&imported.module, "main", inputs).unwrap())
}

fn one_node(node: NodeProto, dims: &[&str], stored: Vec<TensorProto>) -> ModelProto {
    let inputs = vec![value("x", STRING, dims)];
    let mut model = model(vec![node], inputs, &["y"], stored);
    model.opset_import[0].version = Some(20);
    model
}

fn normalizer(dims: &[&str], attributes: Vec<AttributeProto>) -> ModelProto {
    one_node(node("StringNormalizer", &["x"], &["y"], attributes), dims, vec![])
}

/// Some thousand strings, all pairs and triples of the letters among them.
fn many() -> Vec<String> {
    let mut all = vec![String::new()];
    for a in LETTERS {
        for b in LETTERS {
            all.push([*a, *b].iter().collect());
            for c in ['Σ', 'a', '.', '\u{301}'] {
                all.push(['a', *a, c, *b].iter().collect());
                all.push([c, *a, 'Σ', *b, c].iter().collect());
            }
        }
    }
    all
}

#[test]
fn case_changes_as_in_the_standard_library() {
    let all = many();
    let x = encode(&[all.len()], &all).unwrap();
    for (action, change) in [("LOWER", str::to_lowercase as fn(&str) -> String), ("UPPER", str::to_uppercase)]
    {
        let imported = import(&normalizer(&["n"], vec![text("case_change_action", action)])).unwrap();
        let y = decode(&run(&imported, std::slice::from_ref(&x))[0]);
        for (text, found) in all.iter().zip(&y) {
            assert_eq!(*found, change(text), "{action} {text:?}");
        }
        assert_eq!(y.len(), all.len());
    }
}

#[test]
fn stop_words_are_taken_out() {
    let words = ["Monday", "", "MONDAY", "monda", "mondays", "STRASSE", "Straße", "day"];
    let stop = || texts("stopwords", &["monday", "straße", "a word that is longer than all of the others"]);
    let sensitive = || int("is_case_sensitive", 1);
    let upper = || text("case_change_action", "UPPER");
    for (attributes, kept) in [
        (vec![stop()], &["", "monda", "mondays", "STRASSE", "day"][..]),
        (vec![stop(), upper()], &["", "MONDA", "MONDAYS", "DAY"]),
        (vec![stop(), sensitive()], &words),
        (
            vec![stop(), sensitive(), upper()],
            &["MONDAY", "", "MONDAY", "MONDA", "MONDAYS", "STRASSE", "STRASSE", "DAY"],
        ),
        (
            vec![texts("stopwords", &["", "day"])],
            &["Monday", "MONDAY", "monda", "mondays", "STRASSE", "Straße"],
        ),
        (vec![texts("stopwords", &[])], &words),
    ] {
        for (dims, shape) in [(&["n"][..], &[words.len()][..]), (&["one", "n"], &[1, words.len()])] {
            let imported = import(&normalizer(dims, attributes.clone())).unwrap();
            let y = &run(&imported, &[encode(shape, &words).unwrap()])[0];
            assert_eq!(decode(y), kept, "{attributes:?}");
            assert_eq!(y.shape[..y.rank() - 1], [&shape[..shape.len() - 1], &[kept.len()]].concat());
        }
    }
}

#[test]
fn nothing_kept_is_one_empty_string() {
    for (dims, shape) in [(&["n"][..], &[2usize][..]), (&["1", "n"], &[1, 2])] {
        let imported = import(&normalizer(dims, vec![texts("stopwords", &["a", "b"])])).unwrap();
        let y = &run(&imported, &[encode(shape, &["B", "a"]).unwrap()])[0];
        assert_eq!((decode(y), y.rank()), (vec![String::new()], shape.len() + 1));
    }
}

#[test]
fn inputs_and_outputs_say_that_they_are_strings() {
    let imported = import(&normalizer(&["n"], vec![])).unwrap();
    let signature = Signature::of(&imported.module, imported.module.functions()[0]);
    assert!(signature.inputs[0].is_strings && signature.outputs[0].is_strings);
    assert_eq!(signature.inputs[0].type_text(), "strings [n], up to x_characters characters");
    assert!(imported.outputs[0].is_strings);
}

#[test]
fn a_string_input_can_be_frozen() {
    let model = normalizer(&["n"], vec![texts("stopwords", &["a"])]).encode_to_vec();
    let with = |tensor: Tensor| {
        let options = Options { frozen: [("x".into(), tensor)].into_iter().collect(), ..Options::default() };
        import_bytes(model.clone().into(), &options)
    };
    let imported = with(encode(&[1, 2], &["A", "b"]).unwrap()).unwrap();
    assert_eq!(decode(&run(&imported, &[])[0]), ["b"]);
    let problems = with(Tensor::splat(tilewright_ir::element::Element::F32, &[2], 1.0)).unwrap_err();
    assert!(problems[0].to_string().contains("holds no strings"), "{}", problems[0]);
}

#[test]
fn what_is_not_taken_is_named() {
    let relu = one_node(node("Relu", &["x"], &["y"], vec![]), &["n"], vec![]);
    let said = report(&relu);
    assert!(said.contains("Relu_y") && said.contains("input 0 holds strings"), "{said}");
    let turkish = report(&normalizer(&["n"], vec![text("locale", "tr_TR.UTF-8")]));
    assert!(turkish.contains("'locale' = 'tr_TR.UTF-8'"), "{turkish}");
    let stored = |tensor: TensorProto| {
        report(&one_node(node("Identity", &["w"], &["y"], vec![]), &["n"], vec![tensor]))
    };
    assert!(stored(words("w", &[2], &["a\0b", "c"])).contains("no character of a string"));
    assert!(stored(words("w", &[3], &["a", "c"])).contains("takes 3 strings, found 2"));
    let mut broken = words("w", &[1], &["a"]);
    broken.string_data[0] = vec![0xff];
    assert!(stored(broken).contains("not UTF-8"));
    let text = model(
        vec![node("StringNormalizer", &["x"], &["y"], vec![])],
        vec![value("x", FLOAT, &["n"])],
        &["y"],
        vec![],
    );
    assert!(report(&text).contains("input 0 must be strings"));
}

/// What Python's `str.split` gives.
fn split(text: &str, delimiter: &str, most: Option<usize>) -> Vec<String> {
    let most = most.map_or(usize::MAX, |most| most + 1);
    if !delimiter.is_empty() {
        return text.splitn(most, delimiter).map(String::from).collect();
    }
    let (mut rest, mut pieces) = (text.trim_start(), Vec::new());
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).filter(|_| pieces.len() + 1 < most).unwrap_or(rest.len());
        pieces.push(rest[..end].to_string());
        rest = rest[end..].trim_start();
    }
    pieces
}

#[test]
fn strings_split_as_in_python() {
    let parts = ["a", "-", " ", "日本", "--", "ab", "\u{2003}", "\t", "ba"];
    let mut all = vec![String::new()];
    for a in parts {
        for b in parts {
            for c in parts {
                all.push([a, b, c].concat());
                all.push([c, b, b, a, c].concat());
            }
        }
    }
    let x = encode(&[all.len()], &all).unwrap();
    for delimiter in ["", "-", "ab", "日"] {
        for most in [None, Some(0), Some(1), Some(2)] {
            let mut attributes = vec![text("delimiter", delimiter)];
            attributes.extend(most.map(|most| int("maxsplit", most as i64)));
            let mut model = one_node(node("StringSplit", &["x"], &["y", "z"], attributes), &["n"], vec![]);
            model.graph.as_mut().unwrap().output.push(value("z", INT64, &[]));
            let imported = import(&model).unwrap();
            let found = run(&imported, std::slice::from_ref(&x));
            let width = found[0].shape[1];
            let pieces = decode(&found[0]);
            for (at, text) in all.iter().enumerate() {
                let wanted = split(text, delimiter, most);
                assert_eq!(found[1].int(at), wanted.len() as i64, "{text:?} at {delimiter:?} {most:?}");
                let row = &pieces[at * width..(at + 1) * width];
                assert_eq!(row[..wanted.len()], wanted, "{text:?} at {delimiter:?} {most:?}");
                assert!(row[wanted.len()..].iter().all(String::is_empty));
            }
            assert_eq!(width, all.iter().map(|text| split(text, delimiter, most).len()).max().unwrap());
        }
    }
    let overlapping = node("StringSplit", &["x"], &["y"], vec![text("delimiter", "--")]);
    assert!(report(&one_node(overlapping, &["n"], vec![])).contains("overlaps itself"));
}

#[test]
fn strings_are_moved_and_joined() {
    let words = ["a", "", "日本", "dd"];
    let x = encode(&[2, 2], &words).unwrap();
    let nodes = vec![
        node("Transpose", &["x"], &["t"], vec![]),
        node("StringConcat", &["t", "w"], &["j"], vec![]),
        node("Concat", &["j", "x"], &["c"], vec![int("axis", 0)]),
        node("Gather", &["c", "at"], &["y"], vec![int("axis", 0)]),
        node("Equal", &["y", "w"], &["e"], vec![]),
    ];
    let stored = vec![words_of_two(), ints("at", &[1, -1])];
    let mut model = model(nodes, vec![value("x", STRING, &["n", "2"])], &["y", "e"], stored);
    model.opset_import[0].version = Some(20);
    let found = run(&import(&model).unwrap(), &[x]);
    assert_eq!(decode(&found[0]), ["-", "dd+", "日本", "dd"]);
    assert_eq!(found[1].ints(), [1, 0, 0, 0]);
}

fn words_of_two() -> TensorProto {
    words("w", &[2], &["-", "+"])
}

#[test]
fn whole_strings_match_a_pattern() {
    let attributes = vec![text("pattern", r"\b[a-c]*\.?")];
    let mut model = one_node(node("RegexFullMatch", &["x"], &["y"], attributes), &["n", "2"], vec![]);
    let x = encode(&[3, 2], &["abc.", "abcd", "", "日", "a", "."]).unwrap();
    let found = run(&import(&model).unwrap(), &[x]);
    assert_eq!((found[0].ints(), &found[0].shape[..]), (vec![1, 0, 0, 0, 1, 0], &[3, 2][..]));
    model.graph.as_mut().unwrap().node[0].attribute = vec![text("pattern", "(")];
    let said = report(&model);
    assert!(said.contains("RegexFullMatch_y") && said.contains("unclosed group"), "{said}");
}
