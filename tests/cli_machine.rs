//! A machine of the user's own, as a file.

use super::{expect, folder, model};

#[test]
fn a_machine_is_a_file() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let text = expect(0, &["targets", "npu-gen3"]).out;
    let mine =
        text.replace("name = \"npu-gen3\"", "name = \"my-npu\"").replace("bytes = 1048576", "bytes = 131072");
    std::fs::write(path("my.toml"), &mine).expect("a file");
    let (my, out) = (path("my.toml"), path("my.npu"));
    expect(0, &["compile", &model("cases/opt-llama"), "-o", &out, "--bind", "batch=1", "--machine", &my]);
    let told = expect(0, &["inspect", &out]).out;
    assert!(told.contains("my-npu"), "{told}");
    let listed = expect(0, &["targets", "--json", "--machine", &my]).out;
    assert!(listed.contains("\"my-npu\"") && listed.contains("128 KiB"), "{listed}");
    // A target that is named goes before the file's.
    let named = ["--target", "host", "--machine", &my];
    expect(
        0,
        &[&["compile", &model("cases/opt-llama"), "-o", &out, "--bind", "batch=1"][..], &named].concat(),
    );
    assert!(expect(0, &["inspect", &out]).out.contains("host"));
}

#[test]
fn mistakes_in_a_machine_are_shown_in_their_line() {
    let folder = folder();
    let path = folder.path().join("my.toml");
    let text = expect(0, &["targets", "micro-npu"]).out.replace("name = \"micro-npu\"", "name = \"my-npu\"");
    std::fs::write(&path, text.replace("lanes = 8", "lane = 8")).expect("a file");
    let file = path.display().to_string();
    let told = expect(1, &["targets", "--machine", &file]).err;
    assert!(told.contains("my.toml:") && told.contains("lane = 8") && told.contains("'lanes'"), "{told}");
    std::fs::write(&path, text.replace("\"micro-npu\"", "\"npu-gen3\"").replace("\"my-npu\"", "\"host\""))
        .expect("a file");
    assert!(expect(1, &["targets", "--machine", &file]).err.contains("called 'host' already"));
    expect(1, &["targets", "--machine", "absent.toml"]);
    expect(1, &["targets", "host"]);
}
