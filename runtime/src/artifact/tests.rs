//! The container: round trip, failures that leave nothing, and hostile bytes, with and without their hashes made right again.

use super::*;
use crate::random::Random;
use crate::session::{Options, Session, tests::tiled_program};
use std::sync::Arc;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tilewright-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }
    fn entries(&self) -> usize {
        std::fs::read_dir(&self.0).expect("exists").count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn constant(name: &str, offset_bytes: u64, bytes: u64) -> ConstantInfo {
    ConstantInfo { name: name.into(), element: Element::F32, shape: vec![bytes / 4], offset_bytes, bytes }
}

fn write(path: &Path) -> Result<u64, ArtifactError> {
    let mut writer = ArtifactWriter::create(path, "npu-gen3", "tilewright 0.1.0")?;
    writer.metadata(&BTreeMap::from([("model".to_owned(), "tiled".to_owned())]))?;
    writer.program(&tiled_program(false))?;
    writer.constants(&[constant("bias", 0, 16), constant("more", 64, 8)], |index, sink| {
        let values: &[f32] = if index == 0 { &[1.0, 2.0, 3.0, 4.0] } else { &[5.0, 6.0] };
        values.iter().try_for_each(|value| sink.write_all(&value.to_le_bytes()))
    })?;
    writer.blob("tokenizer.json", b"{}")?;
    writer.finish()
}

#[test]
fn what_is_written_is_read() {
    let folder = Folder::new("round-trip");
    let path = folder.0.join("model.npu");
    let bytes = write(&path).expect("writes");
    assert_eq!(folder.entries(), 1, "the temporary file is gone");
    let artifact = Artifact::open(&path, Verify::All).expect("reads");
    assert_eq!((artifact.target.as_str(), artifact.tool.as_str()), ("npu-gen3", "tilewright 0.1.0"));
    assert_eq!(artifact.metadata["model"], "tiled");
    assert_eq!(artifact.programs, [tiled_program(false)]);
    assert_eq!(artifact.programs[0].location(4), Some("relu"));
    assert_eq!(artifact.constants().len(), 72);
    assert_eq!(artifact.constants()[64..68], 5f32.to_le_bytes());
    assert_eq!(artifact.constant_index[1], constant("more", 64, 8));
    assert_eq!(artifact.blob("tokenizer.json"), Some(&b"{}"[..]));
    assert_eq!(artifact.file_bytes(), bytes);
    assert!(
        artifact
            .sections
            .iter()
            .all(|section| section.offset_bytes.is_multiple_of(section.kind.alignment_bytes()))
    );
    write(&path).expect("overwrites");
    assert_eq!(std::fs::read(&path).expect("reads").len() as u64, bytes);
}

#[test]
fn failures_leave_nothing() {
    let folder = Folder::new("failures");
    let path = folder.0.join("model.npu");
    let attempt = |infos: &[ConstantInfo], written: usize| {
        let mut writer = ArtifactWriter::create(&path, "t", "v")?;
        writer.constants(infos, |_, sink| sink.write_all(&vec![0; written]))?;
        writer.finish()
    };
    let short = attempt(&[constant("w", 0, 16)], 12).expect_err("too short");
    assert_eq!(short.to_string(), "constant \"w\": 16 bytes announced, 12 written");
    let overlap = attempt(&[constant("v", 0, 16), constant("w", 12, 16)], 16).expect_err("overlaps");
    assert!(overlap.to_string().contains("\"w\" begins at 12, before the end of the one before it (16)"));
    let mut writer = ArtifactWriter::create(&path, "t", "v").expect("creates");
    let full = writer.constants(&[constant("w", 0, 4)], |_, _| Err(io::Error::other("disk full")));
    assert!(full.expect_err("fails").to_string().contains("disk full"));
    drop(writer);
    assert_eq!(folder.entries(), 0);
    let missing = ArtifactWriter::create(folder.0.join("no/such/model.npu"), "t", "v");
    assert!(missing.expect_err("no folder").to_string().starts_with("cannot create"));
}

/// A program without weights, whose index says that `bias` lies at 0; and a file of weights where it lies elsewhere.
fn write_apart(folder: &Path) -> Result<(PathBuf, PathBuf), ArtifactError> {
    let (program, weights) = (folder.join("program.npu"), folder.join("weights.npu"));
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut writer = WeightsWriter::create(&weights, "v")?;
    writer.add(&constant("other", 0, 8), &bytes(&[5.0, 6.0]))?;
    let hash = writer.add(&constant("bias", 0, 16), &bytes(&[1.0, 2.0, 3.0, 4.0]))?;
    let again = writer.add(&constant("the same", 7, 16), &bytes(&[1.0, 2.0, 3.0, 4.0]))?;
    assert_eq!(hash, again);
    let summary = writer.finish()?;
    assert_eq!((summary.added, summary.shared), (2, 1));
    let mut writer = ArtifactWriter::create(&program, "npu-gen3", "v")?;
    writer.metadata(&BTreeMap::from([Artifact::weights_metadata("weights.npu")]))?;
    writer.program(&tiled_program(false))?;
    writer.constant_index(&[constant("bias", 0, 16)], &[hash])?;
    writer.finish()?;
    Ok((program, weights))
}

fn results(artifact: Artifact) -> Vec<u8> {
    let mut session = Session::new(Arc::new(artifact), Options::default()).expect("loads");
    session.set_input("x", &[3, 4], &[1; 48]).expect("fits");
    session.run().expect("runs");
    session.output("y").expect("is there").bytes
}

#[test]
fn a_program_binds_to_weights_by_their_hashes() {
    let folder = Folder::new("apart");
    let (program, weights) = write_apart(&folder.0).expect("writes");
    let whole = folder.0.join("model.npu");
    write(&whole).expect("writes");
    let open = |path: &Path| Artifact::open(path, Verify::All).expect("reads");
    let stripped = open(&program);
    assert!(stripped.needs_weights() && stripped.weights_file() == Some("weights.npu"));
    assert!(stripped.constants().is_empty());
    let unbound = Session::new(Arc::new(open(&program)), Options::default()).err().expect("has no weights");
    assert!(unbound.to_string().contains("'weights.npu'"), "{unbound}");
    let expected = results(open(&whole));
    for (load, prefault) in [(Load::Map, false), (Load::Map, true), (Load::Read, false)] {
        let options = LoadOptions { load, prefault };
        let weights = Artifact::open_with(&weights, Verify::ExceptConstants, &options).expect("reads");
        let bound = open(&program).bind(Arc::new(weights)).expect("binds");
        assert!(!bound.needs_weights());
        assert_eq!(results(bound), expected);
    }
    // Its own weights stay; weights of another model, or an index alone, are refused.
    assert_eq!(results(open(&whole).bind(Arc::new(open(&weights))).expect("is whole")), expected);
    let other = folder.0.join("other.npu");
    let mut writer = WeightsWriter::create(&other, "v").expect("creates");
    writer.add(&constant("bias", 0, 16), &[7; 16]).expect("writes");
    writer.finish().expect("writes");
    for wrong in [&other, &program] {
        let error = open(&program).bind(Arc::new(open(wrong))).expect_err("is of another model");
        assert!(error.to_string().contains("contents of \"bias\""), "{error}");
        assert!(error.to_string().contains("1 of 1 are missing"), "{error}");
    }
}

#[test]
fn weights_are_added_and_keep_their_places() {
    let folder = Folder::new("added");
    let (program, weights) = write_apart(&folder.0).expect("writes");
    let before = std::fs::read(&weights).expect("reads");
    let index = Artifact::open(&weights, Verify::All).expect("reads").constant_index;
    let again = WeightsWriter::create(&weights, "v").expect("opens").finish().expect("has nothing to do");
    assert_eq!((again.added, again.file_bytes), (0, before.len() as u64));
    assert_eq!(std::fs::read(&weights).expect("reads"), before);
    let mut writer = WeightsWriter::create(&weights, "v").expect("opens");
    writer.add(&constant("third", 0, 4), &[9; 4]).expect("writes");
    writer.add(&constant("bias", 0, 8), &index_bytes(&weights, 0)).expect("is known");
    assert_eq!(writer.finish().map(|summary| (summary.added, summary.shared)).expect("writes"), (1, 1));
    let grown = Artifact::open(&weights, Verify::All).expect("reads");
    assert_eq!(grown.constant_index[..2], index);
    let bound = Artifact::open(&program, Verify::All).expect("reads").bind(Arc::new(grown));
    assert!(bound.is_ok());
    // Nothing is added to an artifact with programs, and failures leave what was there.
    let refused = WeightsWriter::create(&program, "v").expect_err("holds a program");
    assert!(refused.to_string().contains("not a file of weights"), "{refused}");
    let mut writer = WeightsWriter::create(&weights, "v").expect("opens");
    writer.add(&constant("fourth", 0, 4), &[8; 4]).expect("writes");
    assert!(writer.add(&constant("short", 0, 4), &[8; 3]).is_err());
    drop(writer);
    assert_eq!(Artifact::open(&weights, Verify::All).expect("reads").constant_index.len(), 3);
    assert_eq!(folder.entries(), 2);
}

fn index_bytes(path: &Path, at: usize) -> Vec<u8> {
    let artifact = Artifact::open(path, Verify::All).expect("reads");
    let info = &artifact.constant_index[at];
    artifact.constants()[info.offset_bytes as usize..][..info.bytes as usize].to_vec()
}

/// Loads and, when that succeeds, runs with bounded memory and work. Everything but a panic is fine.
fn try_all(bytes: Vec<u8>, verify: Verify) -> &'static str {
    match Artifact::from_bytes(bytes, verify) {
        Ok(artifact) => try_artifact(artifact),
        Err(_) => "refused",
    }
}

fn try_artifact(artifact: Artifact) -> &'static str {
    let mut options = Options { work_max: 100_000, ..Options::default() };
    options.limits.space_bytes_max = [1 << 20; 6];
    let Ok(mut session) = Session::new(Arc::new(artifact), options) else { return "checked" };
    for index in 0..session.programs().len() {
        session.select(index);
        let _ = session.set_input("x", &[3, 4], &[1; 48]);
        let _ = session.run();
        let _ = session.output("y");
        let _ = crate::disassemble::disassemble(session.program(), Default::default());
    }
    "ran"
}

#[test]
fn hostile_programs_without_weights_are_errors() {
    let folder = Folder::new("hostile-apart");
    let (program, weights) = write_apart(&folder.0).expect("writes");
    let weights = Arc::new(Artifact::open(&weights, Verify::All).expect("reads"));
    let good = std::fs::read(&program).expect("reads");
    let sections = Artifact::from_bytes(good.clone(), Verify::All).expect("valid").sections;
    let is_damaged =
        |section: &&Section| matches!(section.kind, SectionKind::ConstantIndex | SectionKind::Program);
    let places: Vec<_> = sections.iter().filter(is_damaged).filter_map(section_range).collect();
    let mut random = Random::new(3);
    let mut outcomes = BTreeMap::new();
    for _ in 0..4_000 {
        let mut bytes = good.clone();
        let place = &places[random.below(places.len() as u64) as usize];
        for _ in 0..1 + random.below(2) {
            let at = place.start + random.below(place.len() as u64) as usize;
            bytes[at] = [0, 1, 0x80, 0xff, random.next_u64() as u8][random.below(5) as usize];
        }
        recompute_hashes(&mut bytes);
        let bound = Artifact::from_bytes(bytes, Verify::All).map(|artifact| artifact.bind(weights.clone()));
        let outcome = match bound {
            Err(_) => "container",
            Ok(Err(_)) => "binding",
            Ok(Ok(artifact)) => try_artifact(artifact),
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert!(outcomes.len() == 4 && outcomes.values().all(|&count| count > 20), "{outcomes:?}");
}

#[test]
fn hostile_bytes_are_errors() {
    let folder = Folder::new("hostile");
    let path = folder.0.join("model.npu");
    write(&path).expect("writes");
    let good = std::fs::read(&path).expect("reads");
    assert_eq!(try_all(good.clone(), Verify::All), "ran");
    let artifact = Artifact::from_bytes(good.clone(), Verify::All).expect("valid");
    // Damage goes where something is written: the file is mostly padding between sections.
    let mut places: Vec<std::ops::Range<usize>> =
        artifact.sections.iter().filter_map(section_range).collect();
    let table = places.last().map_or(0, |last| last.end)..good.len();
    places.extend([0..HEADER_BYTES, table]);
    let mut random = Random::new(2);
    let mut outcomes = BTreeMap::new();
    for round in 0..12_000 {
        let mut bytes = good.clone();
        let place = &places[random.below(places.len() as u64) as usize];
        for _ in 0..1 + random.below(3) {
            let at = place.start + random.below(place.len().max(1) as u64) as usize;
            let Some(byte) = bytes.get_mut(at) else { continue };
            match random.below(3) {
                0 => *byte ^= 1 << random.below(8),
                1 => *byte = random.next_u64() as u8,
                _ => *byte = [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize],
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        if round % 4 != 0 {
            recompute_hashes(&mut bytes);
        }
        let verify = if round % 2 == 0 { Verify::All } else { Verify::ExceptConstants };
        *outcomes.entry(try_all(bytes, verify)).or_insert(0) += 1;
    }
    // All three layers have been reached: container, checker, interpreter.
    assert!(outcomes.len() == 3 && outcomes.values().all(|&count| count > 100), "{outcomes:?}");
}
