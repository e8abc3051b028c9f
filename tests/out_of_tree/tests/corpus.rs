//! ACME's corpus: parsed, printed, optimised, compiled, run and compared by the same harness as tilewright's own.

#[test]
fn corpus() {
    insta::glob!("../corpus", "*.mlir", |path| {
        let text = std::fs::read_to_string(path).expect("a readable corpus file");
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a file name");
        let found = harness::corpus_file::run(&acme_npu::session(), name, &text);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(path.parent().expect("a folder"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_snapshot_suffix("");
        settings.bind(|| insta::assert_snapshot!(name, found));
    });
}
