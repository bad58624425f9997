//! The packs of the examples do real work, and what they make is what it must be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flotilla_tests::binary::root;
use flotilla_tests::{Client, Fleet, LIMIT, Start, foreign, wait_until};
use serde_json::{Value, json};

fn pack(name: &str) -> PathBuf {
    root().join("examples/packs").join(name)
}

/// Runs a script of Python, and gives what it prints.
fn python(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("python3")
        .args(["-c", script])
        .args(arguments)
        .output()
        .expect("python3 can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The attempts of a task, over all executions, the oldest first.
async fn attempts(fleet: &Fleet, task: &str) -> Vec<(String, i32)> {
    let query = format!(
        "SELECT status::text, attempt FROM workflow_task_detail WHERE task = '{task}' ORDER BY created_at"
    );
    fleet.database.rows(&query).await
}

/// A picture of the form that `sample.py` and the pack write: its width, its height, its bytes.
fn read_ppm(path: &Path) -> (usize, usize, Vec<u8>) {
    let bytes = fs::read(path).expect("the picture is there");
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(lines.next().expect("a line")).into_owned();
    assert_eq!(text(), "P6");
    let size = text();
    assert_eq!(text(), "255");
    let (width, height) = size.split_once(' ').expect("width and height");
    let number = |text: &str| text.parse().expect("a number");
    let data = lines.next().expect("the pixels").to_vec();
    (number(width), number(height), data)
}

/// The header of a WAV file of 16 bits (channels, frames per second), and its samples.
fn read_wav(path: &Path) -> (u16, u32, Vec<i16>) {
    let bytes = fs::read(path).expect("the sound is there");
    assert_eq!(
        (&bytes[..4], &bytes[8..16]),
        (&b"RIFF"[..], &b"WAVEfmt "[..])
    );
    let channels = u16::from_le_bytes([bytes[22], bytes[23]]);
    let rate = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
    assert_eq!(&bytes[36..40], b"data");
    let samples = bytes[44..].chunks_exact(2);
    let samples = samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    (channels, rate, samples.collect())
}

#[tokio::test]
async fn a_clip_is_transcoded_in_parallel() {
    if !foreign::has_python3() {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.register_pack("media");
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let mut client = fleet.client().await;
    let folder = fleet.folder.join("clip");
    let sample = Command::new("python3")
        .arg(pack("media").join("sample.py"))
        .arg(&folder)
        .status();
    assert!(sample.expect("python3 can be run").success());
    let start = Start::of("media.transcode").parameters(&json!({"folder": folder}));
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "succeeded", "{finished}");

    let manifest = &finished["output"]["manifest"];
    let written = fs::read(folder.join("manifest.json")).expect("the manifest is written");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(&written, manifest);
    assert_eq!(
        manifest["source"],
        json!({"width": 64, "height": 48, "seconds": 0.5})
    );
    for file in manifest["files"].as_array().expect("a list") {
        let name = file["name"].as_str().expect("a name");
        let size = fs::metadata(folder.join(name)).expect("the file is there");
        assert_eq!(file["bytes"], size.len(), "{name}");
    }
    is_halved(&folder);
    is_the_same_picture(&folder);
    is_mixed_down(&folder);
    let peaks = fs::read(folder.join("waveform.json")).expect("the waveform is there");
    let peaks: Vec<i64> = serde_json::from_slice(&peaks).expect("numbers");
    let (_, _, samples) = read_wav(&folder.join("source.wav"));
    let loudest = samples.iter().map(|sample| i64::from(*sample).abs()).max();
    assert_eq!(peaks.len(), 50);
    assert_eq!(peaks.iter().max().copied(), loudest);
    assert_eq!(manifest["loudest"], json!(loudest));

    // A source that is cut off is refused, and nothing is made of it.
    let cut = fleet.folder.join("cut");
    fs::create_dir(&cut).expect("there is room");
    fs::write(cut.join("source.ppm"), b"P6\n64 48\n255\nshort").expect("there is room");
    let start = Start::of("media.transcode").parameters(&json!({"folder": cut}));
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "failed", "{finished}");
    let errors = finished["errors"].to_string();
    assert!(
        errors.contains("source.ppm is no whole P6 picture"),
        "{errors}"
    );
    assert_eq!(fs::read_dir(&cut).expect("it is there").count(), 1);
    fleet.rest([worker, coordinator]).await;
}

/// Each pixel of the thumbnail is the mean of four.
fn is_halved(folder: &Path) {
    let (width, height, source) = read_ppm(&folder.join("source.ppm"));
    let (half_width, half_height, small) = read_ppm(&folder.join("thumbnail.ppm"));
    assert_eq!((half_width, half_height), (width / 2, height / 2));
    let at = |x: usize, y: usize, part: usize| u32::from(source[(y * width + x) * 3 + part]);
    for y in 0..half_height {
        for x in 0..half_width {
            for part in 0..3 {
                let corners = [(0, 0), (1, 0), (0, 1), (1, 1)];
                let corners = corners.map(|(dx, dy)| at(2 * x + dx, 2 * y + dy, part));
                let mean = corners.iter().sum::<u32>() / 4;
                let made = small[(y * half_width + x) * 3 + part];
                assert_eq!(u32::from(made), mean, "{x} {y} {part}");
            }
        }
    }
}

/// The PNG holds the very pixels of the source.
fn is_the_same_picture(folder: &Path) {
    let pixels = python(
        "import struct, sys, zlib
data = open(sys.argv[1], 'rb').read()
assert data[:8] == b'\\x89PNG\\r\\n\\x1a\\n', 'no PNG'
at, body = 8, b''
while at < len(data):
    size, name = struct.unpack('>I4s', data[at:at + 8])
    part = data[at + 8:at + 8 + size]
    assert zlib.crc32(name + part) == struct.unpack('>I', data[at + 8 + size:at + 12 + size])[0], name
    if name == b'IHDR': width = struct.unpack('>I', part[:4])[0]
    if name == b'IDAT': body += part
    at += 12 + size
rows = zlib.decompress(body)
row = width * 3 + 1
print(b''.join(rows[n + 1:n + row] for n in range(0, len(rows), row)).hex())",
        &[&folder.join("picture.png")],
    );
    let (_, _, source) = read_ppm(&folder.join("source.ppm"));
    let source: String = source.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(pixels, source);
}

/// Each sample of the track is the mean of two frames of two channels.
fn is_mixed_down(folder: &Path) {
    let (channels, rate, source) = read_wav(&folder.join("source.wav"));
    assert_eq!(channels, 2);
    let (channels, half_rate, made) = read_wav(&folder.join("track.wav"));
    assert_eq!((channels, half_rate), (1, rate / 2));
    let mean = |four: &[i16]| four.iter().map(|sample| i32::from(*sample)).sum::<i32>();
    let expected: Vec<i32> = source
        .chunks_exact(4)
        .map(|four| mean(four).div_euclid(4))
        .collect();
    let made: Vec<i32> = made.into_iter().map(i32::from).collect();
    assert_eq!(made, expected);
}

/// Where an import reads and writes.
struct Import {
    file: PathBuf,
    database: PathBuf,
    quarantine: PathBuf,
}

impl Import {
    fn new(fleet: &Fleet) -> Self {
        let place = |name: &str| fleet.folder.join(name);
        Self {
            file: place("customers.csv"),
            database: place("customers.db"),
            quarantine: place("quarantine"),
        }
    }

    fn start(&self) -> Start {
        let parameters =
            json!({"file": self.file, "database": self.database, "quarantine": self.quarantine});
        Start::of("imports.customers").parameters(&parameters)
    }

    /// Runs an import of the file, which must succeed.
    async fn run(&self, client: &mut Client) -> Value {
        let start = self.start();
        let finished = client.run(&start).await;
        assert_eq!(finished["status"], "succeeded", "{finished}");
        finished["output"].clone()
    }

    /// What an import has put into quarantine.
    fn kept(&self, start: &Start, name: &str) -> String {
        let folder = self.quarantine.join(start.execution_id().to_string());
        fs::read_to_string(folder.join(name)).expect("it is kept")
    }

    /// The ids and credits in the database.
    fn customers(&self) -> String {
        python(
            "import sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute('SELECT id, credit FROM customer ORDER BY id')
print(' '.join(f'{id}:{credit:g}' for id, credit in rows))",
            &[&self.database],
        )
    }
}

const LOADED: &str = "1:1200 2:300 3:950.5 5:700 7:450 8:2.56 10:880";

#[tokio::test]
async fn customers_are_imported_and_wrong_rows_kept() {
    if !foreign::has_python3() {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.register_pack("imports");
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let mut client = fleet.client().await;
    let import = Import::new(&fleet);
    let sample = pack("imports").join("customers.csv");
    fs::copy(&sample, &import.file).expect("there is room");
    let start = import.start();
    let finished = client.run(&start).await;
    let partly = json!({"state": "imported", "loaded": 7, "quarantined": 3});
    assert_eq!(finished["output"], partly, "{finished}");
    assert_eq!(import.customers(), LOADED);
    assert_eq!(
        import.kept(&start, "wrong.csv"),
        "line,reason,text\n\
         5,name is empty,\"4,,nobody@example.org,10\"\n\
         7,email is no address,\"6,Edsger Dijkstra,not an address,0\"\n\
         10,credit is no amount,\"9,Tony Hoare,tony@example.org,a billion\"\n"
    );
    // The same file once more changes nothing.
    assert_eq!(import.run(&mut client).await, partly);
    assert_eq!(import.customers(), LOADED);

    // A file without mistakes has nothing to keep.
    let good = "id,name,email,credit\n11,Radia Perlman,radia@example.org,5\n#end\n";
    fs::write(&import.file, good).expect("there is room");
    let wholly = json!({"state": "imported", "loaded": 1, "quarantined": 0});
    assert_eq!(import.run(&mut client).await, wholly);
    assert_eq!(import.customers(), format!("{LOADED} 11:5"));

    // One that is mostly wrong is moved away, and the database is left alone.
    let wrong = "id,name,email,credit\nx,,,\ny,,,\n12,Ken Thompson,ken@example.org,1\n#end\n";
    fs::write(&import.file, wrong).expect("there is room");
    let start = import.start();
    let finished = client.run(&start).await;
    let kept = json!({"state": "quarantined", "loaded": 0, "quarantined": 3});
    assert_eq!(finished["output"], kept, "{finished}");
    assert_eq!(import.kept(&start, "file.csv"), wrong);
    assert!(!import.file.exists());
    assert_eq!(import.customers(), format!("{LOADED} 11:5"));
    fleet.rest([worker, coordinator]).await;
}

/// Takes a lock on the database, says so, and gives it up when it is told to.
const LOCK: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute('BEGIN EXCLUSIVE')
print('locked', flush=True)
sys.stdin.read()
database.execute('ROLLBACK')";

#[tokio::test]
async fn an_import_waits_for_its_file_and_for_the_database() {
    if !foreign::has_python3() {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.register_pack("imports");
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let mut client = fleet.client().await;
    let import = Import::new(&fleet);
    let start = import.start();
    client.start(&start).await;
    let is_retried = async |task: &str| {
        wait_until(&format!("{task} is tried again"), LIMIT, async || {
            attempts(&fleet, task)
                .await
                .iter()
                .any(|(_, attempt)| *attempt > 1)
        })
        .await;
    };
    is_retried("read").await;

    let mut locking = Command::new("python3")
        .args(["-c", LOCK])
        .arg(&import.database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be run");
    let mut said = [0; 7];
    let stdout = locking.stdout.as_mut().expect("it is piped");
    std::io::Read::read_exact(stdout, &mut said).expect("it says that it is locked");
    // The file is written while it is looked at, and is not taken before it is whole.
    let whole = fs::read_to_string(pack("imports").join("customers.csv")).expect("it is there");
    let (half, rest) = whole.split_at(whole.len() / 2);
    fs::write(&import.file, half).expect("there is room");
    fs::write(&import.file, format!("{half}{rest}")).expect("there is room");
    is_retried("load").await;
    drop(locking.stdin.take());
    assert!(locking.wait().expect("it ends").success());

    let id = start.execution_id().to_string();
    let finished = client.reply(flotilla_protocol::names::WORKFLOW_FINISHED, &id);
    let finished = finished.await.body;
    assert_eq!(finished["status"], "succeeded", "{finished}");
    assert_eq!(finished["output"]["loaded"], 7);
    assert_eq!(import.customers(), LOADED);
    for task in ["read", "load"] {
        let tried = attempts(&fleet, task).await;
        let [(status, attempt)] = &tried[..] else {
            panic!("{tried:?}");
        };
        assert_eq!(status, "succeeded");
        assert!(*attempt > 1, "{task}: {attempt}");
    }
    fleet.rest([worker, coordinator]).await;
}
