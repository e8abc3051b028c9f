//! The MLIR reader of the tests reads, refuses, splits and keeps locations as the corpus tests count on.

use harness::mlir_reader::{Locations, readers, split_modules};

const MODULE: &str = r#""builtin.module"() ({
  %0:2 = "core.top_k"() <{k = 3 : i64, value = dense_resource<w0> : tensor<4xf32>}> {note = "x"} : () -> (tensor<1x?x64xf32, ["seq", "past + seq"]>, memref<4x64xf32, "sram">)
  "core.use"(%0#1) : (memref<4x64xf32, "sram">) -> ()
}) : () -> ()
"#;

#[test]
fn generic_text_is_a_fixpoint() {
    for reader in readers() {
        assert_eq!(
            reader.print_again(&[MODULE], Locations::Dropped),
            [Ok(MODULE.to_string())],
            "{}",
            reader.name
        );
    }
}

#[test]
fn only_the_guilty_of_many_is_refused() {
    let sound = |name: &str| format!("\"core.{name}\"() : () -> ()");
    let texts =
        [sound("a"), sound("b"), "\"core.c\"() <{k = }> : () -> ()".to_string(), sound("d"), sound("e")];
    for reader in readers() {
        let results = reader.print_again(&texts, Locations::Dropped);
        let refused: Vec<usize> = (0..texts.len()).filter(|&index| results[index].is_err()).collect();
        assert_eq!(refused, [2], "{}", reader.name);
        let message = results[2].as_ref().expect_err("refused");
        assert!(message.contains("expected attribute value"), "{message}");
        assert!(results[4].as_ref().is_ok_and(|text| text.contains("core.e")), "{results:?}");
    }
}

#[test]
fn locations_are_kept_in_place() {
    let text =
        "\"builtin.module\"() ({\n  \"core.x\"() : () -> () loc(\"MatMul_3\")\n}) : () -> () loc(unknown)\n";
    for reader in readers() {
        assert_eq!(reader.print_again(&[text], Locations::Kept), [Ok(text.to_string())], "{}", reader.name);
        let without = text.replace(" loc(\"MatMul_3\")", "").replace(" loc(unknown)", "");
        assert_eq!(reader.print_again(&[text], Locations::Dropped), [Ok(without)], "{}", reader.name);
    }
}

#[test]
fn modules_are_split_at_separator_lines() {
    assert_eq!(split_modules("a\n\n// -----\nb // -----\nc\n"), ["a\n", "b // -----\nc\n"]);
}
