//! Memory planning at the command line, on MiniMalloc's problems and on small wrong files. A part of `cli.rs`, whose helpers it uses.

use super::{expect, folder, tests_folder, text, tilewright_with};

/// `tests/minimalloc`: name, buffers, the most bytes alive at once.
const PROBLEMS: [(&str, u64, u64); 6] = [
    ("A", 154, 1_048_576),
    ("B", 170, 1_048_576),
    ("D", 213, 986_112),
    ("F", 296, 1_048_576),
    ("H", 316, 1_048_576),
    ("J", 409, 989_184),
];

#[test]
fn minimalloc_problems_are_planned_within_their_capacity() {
    let folder = folder();
    for (name, buffers, live) in PROBLEMS {
        let problem = text(&tests_folder().join(format!("minimalloc/{name}.1048576.csv")));
        let planned = text(&folder.path().join(format!("{name}.csv")));
        let words = ["plan-memory", &problem, "--capacity", "1MiB", "-o", &planned, "--json"];
        let said = expect(0, &words).out;
        let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(report["buffers"], buffers);
        assert_eq!(report["live_bytes_max"], live);
        let proof = if live == 1 << 20 { "at-lower-bound" } else { "within-capacity" };
        assert_eq!(report["proof"], proof, "{name}: {} steps", report["steps"]);
        assert!(report["peak_bytes"].as_u64() <= Some(1 << 20));
        let checked = expect(0, &["plan-memory", &planned, "--check", "--capacity", "1048576"]).out;
        assert!(checked.contains("none meets another"), "{checked}");
        // One byte less is refuted, where nothing is to spare by the bytes alive alone.
        if live == 1 << 20 {
            let less = expect(1, &["plan-memory", &problem, "--capacity", "1048575"]);
            assert!(less.err.contains("1048576 bytes are alive at one moment"), "{}", less.err);
            assert!(less.out.is_empty());
        }
    }
}

#[test]
fn a_plan_is_the_same_each_time_and_its_picture_names_the_buffers() {
    let folder = folder();
    let picture = text(&folder.path().join("plan.svg"));
    let input = b"id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\n<b3>,0,9,4\nb4,9,21,4\nb5,0,21,4\n";
    let words = ["plan-memory", "-", "--svg", &picture];
    let first = tilewright_with(input, &words);
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(first.out_bytes, tilewright_with(input, &words).out_bytes);
    assert!(first.out.starts_with("id,lower,upper,size,offset\n"), "{}", first.out);
    assert!(first.err.contains("5 buffers in 12 bytes: as much as is alive at once"), "{}", first.err);
    let svg = std::fs::read_to_string(&picture).expect("a picture");
    assert_eq!(svg.matches("<title>").count(), 5);
    assert!(svg.contains("&lt;b3&gt;: 4 bytes at"), "{svg}");
    let checked = tilewright_with(first.out.as_bytes(), &["plan-memory", "-", "--check", "--capacity", "12"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
}

#[test]
fn wrong_files_and_wrong_plans_are_told_by_line() {
    let folder = folder();
    let output = text(&folder.path().join("out.csv"));
    let refused = tilewright_with(b"id,lower,upper\na,0,1\n", &["plan-memory", "-", "-o", &output]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("there is no column 'size'"), "{}", refused.err);
    let refused = tilewright_with(b"id,lower,upper,size\na,0,1,4\nb,7,x,4\nc,1,0,4\n", &["plan-memory", "-"]);
    assert!(
        refused.err.contains("-:3:5") && refused.err.contains("'x' is no whole number"),
        "{}",
        refused.err
    );
    let meets = b"id,lower,upper,size,offset\na,0,2,4,0\nb,1,3,4,3\n";
    let refused = tilewright_with(meets, &["plan-memory", "-", "--check"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("buffer 'b': [3, 7) meets buffer 0 [0, 4) at time 1 ('a' of line 2)"),
        "{}",
        refused.err
    );
    assert!(!std::path::Path::new(&output).exists());
    expect(2, &["plan-memory", "x.csv", "--capacity", "many"]);
}
