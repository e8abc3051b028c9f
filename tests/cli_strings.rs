//! Models that take and give strings, on the command line.

use super::*;

const STOP: &str = "contrib/string_normalizer_stop_lower";

#[test]
fn strings_go_in_and_come_out() {
    let folder = folder();
    let (case, artifact) = (model(STOP), text(&folder.path().join("stop.npu")));
    let given = format!("x0=@{case}/input_0.npy");
    let shown = "y0: tensor<4xstring> [\"be\", \"or\", \"not\", \"be\"]";
    for place in [&["--reference"][..], &["--target", "npu-gen3"]] {
        let words = [&["run", &case, "--input", &given], place].concat();
        let outcome = expect(0, &words);
        assert!(outcome.out.contains(shown), "{}", outcome.out);
    }
    expect(0, &["compile", &case, "-o", &artifact, "--bind", "x0_characters=8"]);
    let words = ["run", &artifact, "--input", "x0=To,be,or,not,to,be,Été"];
    assert!(expect(0, &words).out.contains("[\"be\", \"or\", \"not\", \"be\"]"));
    let out = text(folder.path());
    expect(0, &[&words[..], &["--output-dir", &out]].concat());
    let file = tilewright::npy::read(&folder.path().join("y0.npy")).expect("a file");
    assert!(file.is_strings && tilewright::strings::decode(&file.tensor) == ["be", "or", "not", "be"]);
    let inspected = expect(0, &["inspect", &artifact]).out;
    assert!(inspected.contains("strings [7], up to 8 characters"), "{inspected}");
    let json = expect(0, &["inspect", &artifact, "--json"]).out;
    assert!(json.contains("up to 8 characters"), "{json}");
    for place in [&["--reference"][..], &["--target", "npu-gen3"]] {
        let bound = [&["run", &case, "--input", &given, "--bind", "x0_characters=9"], place].concat();
        assert!(expect(0, &bound).out.contains(shown));
    }
    let long = expect(1, &["run", &artifact, "--input", "x0=To,be,or,not,to,be,much too long"]);
    assert!(long.err.contains("string 6 has 13 characters, there is room for 8"), "{}", long.err);
    expect(0, &["parity", "--cases", &case, "--on", "reference", "--on", "npu-gen3"]);
}

#[test]
fn numbers_are_no_strings() {
    let folder = folder();
    let numbers = text(&folder.path().join("numbers.npy"));
    let seven = tilewright_ir::tensor::Tensor::splat(tilewright_ir::element::Element::I32, &[7], 65.0);
    tilewright::npy::write(Path::new(&numbers), &seven).expect("a file");
    let wrong = expect(1, &["run", &model(STOP), "--input", &format!("x0=@{numbers}")]);
    assert!(wrong.err.contains("input 'x0' takes strings, the file holds numbers"), "{}", wrong.err);
    let open = expect(1, &["compile", &model(STOP), "-o", &numbers]);
    assert!(open.err.contains("strings [7], up to x0_characters characters"), "{}", open.err);
}
