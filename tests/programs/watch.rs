//! `sync --watch`: the file is read once it is complete, whatever happens to it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::program::{Program, example, folder, run};

/// A service with these destinations.
fn rules(hosts: impl IntoIterator<Item = u8>) -> String {
    let host = |host| format!("-a -t 10.0.0.1:80 -r 10.1.0.{host}:80 -m -w 1\n");
    std::iter::once("-A -t 10.0.0.1:80 -s rr\n".to_owned())
        .chain(hosts.into_iter().map(host))
        .collect()
}

fn write(file: &Path, hosts: impl IntoIterator<Item = u8>) {
    fs::write(file, rules(hosts)).unwrap();
}

/// Puts a new file in the place of the old one.
fn replace(file: &Path, hosts: impl IntoIterator<Item = u8>) {
    let new = file.with_extension("new");
    write(&new, hosts);
    fs::rename(new, file).unwrap();
}

/// Watches a file; the table is not read anew by age.
fn watch(file: &Path) -> Program {
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--watch", "--max-age", "1h"]).arg(file);
    Program::start(&mut sync)
}

/// The line in which a destination is added to the service.
fn added(host: u8) -> String {
    format!("10.1.0.{host}:80")
}

#[track_caller]
fn assert_nothing_was_removed(said: &[String]) {
    for line in said {
        assert!(!line.contains("fake: - "), "{said:#?}");
    }
}

/// Waits for the change that adds this destination, and asserts that nothing was removed before.
#[track_caller]
fn wait_for(sync: &mut Program, host: u8) {
    sync.wait_for(&added(host));
    sync.wait_for("made");
    assert_nothing_was_removed(&sync.said);
}

/// A file with one destination, in a folder, and a program that has read it.
#[track_caller]
fn watched() -> (TempDir, PathBuf, Program) {
    let folder = folder();
    let file = folder.path().join("rules");
    write(&file, [1]);
    let mut sync = watch(&file);
    wait_for(&mut sync, 1);
    (folder, file, sync)
}

#[test]
fn a_file_that_is_truncated_and_then_filled_empties_nothing() {
    let (_folder, file, mut sync) = watched();
    for host in 2..5 {
        fs::write(&file, "").unwrap();
        sync.wait_for("--allow-empty");
        write(&file, 1..=host);
        wait_for(&mut sync, host);
    }
}

/// The writer takes its time, but never as long as the file must be quiet.
#[test]
fn a_file_is_read_once_it_is_quiet() {
    let folder = folder();
    let file = folder.path().join("rules");
    write(&file, [1, 2]);
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--watch", "--quiet", "4s"]).arg(&file);
    let mut sync = Program::start(&mut sync);
    wait_for(&mut sync, 2);
    let mut writer = fs::File::create(&file).unwrap();
    for line in rules([3, 2, 1]).lines() {
        std::thread::sleep(Duration::from_millis(500));
        writeln!(writer, "{line}").unwrap();
    }
    wait_for(&mut sync, 3);
    assert_eq!(sync.said.iter().filter(|line| line.contains("made")).count(), 2);
}

#[test]
fn allowed_to_be_empty_it_is() {
    let folder = folder();
    let file = folder.path().join("rules");
    write(&file, [1]);
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--watch", "--allow-empty"]).arg(&file);
    let mut sync = Program::start(&mut sync);
    wait_for(&mut sync, 1);
    fs::write(&file, "").unwrap();
    sync.wait_for("fake: - ");
}

/// The files are as the kubelet makes them: `rules` is a link to `..data/rules`, and `..data` a
/// link to a folder.
#[test]
fn each_swap_of_a_mounted_config_map_is_followed() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let swap = |host: u8| {
        let version = path(&format!("..version-{host}"));
        fs::create_dir(&version).unwrap();
        write(&version.join("rules"), 1..=host);
        symlink(&version, path("..data_tmp")).unwrap();
        let old = fs::read_link(path("..data"));
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(old).unwrap();
        }
    };
    swap(1);
    symlink("..data/rules", path("rules")).unwrap();
    let mut sync = watch(&path("rules"));
    wait_for(&mut sync, 1);
    for host in 2..6 {
        swap(host);
        wait_for(&mut sync, host);
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_followed_each_time() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let link = |to: &str| {
        symlink(to, path("new")).unwrap();
        fs::rename(path("new"), path("rules")).unwrap();
    };
    for (name, hosts) in [("a", 1..=1), ("b", 1..=2), ("c", 1..=3)] {
        fs::create_dir(path(name)).unwrap();
        write(&path(name).join("rules"), hosts);
    }
    link("a/rules");
    let mut sync = watch(&path("rules"));
    wait_for(&mut sync, 1);
    link("b/rules");
    wait_for(&mut sync, 2);
    link("c/rules");
    wait_for(&mut sync, 3);
    // The new target of the link is watched, too.
    replace(&path("c").join("rules"), 1..=4);
    wait_for(&mut sync, 4);
}

#[test]
fn another_file_of_the_folder_that_never_rests_holds_up_nothing() {
    let folder = folder();
    let file = folder.path().join("rules");
    write(&file, [1]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for text in ["a", "b"].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(folder.path().join("other"), text).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        // A panic would leave the other thread running.
        let outcome = std::panic::catch_unwind(|| {
            let mut sync = watch(&file);
            wait_for(&mut sync, 1);
            for host in 2..5 {
                replace(&file, 1..=host);
                wait_for(&mut sync, host);
            }
        });
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_file_and_a_folder_that_go_and_come_again_are_read_again() {
    let folder = folder();
    let inner: PathBuf = folder.path().join("inner");
    let file = inner.join("rules");
    fs::create_dir(&inner).unwrap();
    write(&file, [1]);
    let mut sync = watch(&file);
    wait_for(&mut sync, 1);
    for host in [2, 4] {
        fs::remove_file(&file).unwrap();
        sync.wait_for("the rules read before stay wanted");
        write(&file, 1..=host);
        wait_for(&mut sync, host);

        fs::remove_dir_all(&inner).unwrap();
        sync.wait_for("the rules read before stay wanted");
        fs::create_dir(&inner).unwrap();
        write(&file, 1..=host + 1);
        wait_for(&mut sync, host + 1);
    }
    // Each absence is reported once.
    let told = sync.said.iter().filter(|line| line.contains("cannot read")).count();
    assert_eq!(told, 4, "{:#?}", sync.said);
}

/// Once: the second absence was not reported, since the same file had come back in between.
#[test]
fn a_link_that_leads_nowhere_again_is_told_again() {
    let folder = folder();
    let [file, link] = ["rules", "link"].map(|name| folder.path().join(name));
    write(&file, [1]);
    let point = |to: &str| {
        let new = folder.path().join("new");
        symlink(to, &new).unwrap();
        fs::rename(new, &link).unwrap();
    };
    point("rules");
    let mut sync = watch(&link);
    wait_for(&mut sync, 1);
    for _ in 0..2 {
        point("missing");
        sync.wait_for("the rules read before stay wanted");
        point("rules");
        sync.wait_for("the file is back, unchanged");
    }
    let told = sync.said.iter().filter(|line| line.contains("cannot read")).count();
    assert_eq!(told, 2, "{:#?}", sync.said);
}

/// Once: differences that the policy leaves were not reported if nothing else had changed.
#[test]
fn what_is_left_is_told_though_nothing_is_changed() {
    let (_folder, file, sync) = watched();
    drop(sync);
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--watch", "--allow-empty", "--own-protocol", "udp"]).arg(&file);
    Program::start(&mut sync).wait_for("left as");
}

/// Once: the program ended, and did not see a file that was written a moment later.
#[test]
fn a_file_that_is_missing_empty_or_broken_at_the_start_is_waited_for() {
    let folder = folder();
    let file = folder.path().join("rules");
    for (text, told) in [
        (None, "cannot read"),
        (Some(""), "--allow-empty"),
        (Some("# later\n"), "--allow-empty"),
        (Some("-A -t nonsense\n"), "nonsense"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let mut sync = watch(&file);
        let line = sync.wait_for("nothing is changed until the file has rules");
        assert!(line.contains(told), "{line}");
        write(&file, [1]);
        wait_for(&mut sync, 1);
        // From here on the file is watched as usual.
        fs::write(&file, "").unwrap();
        sync.wait_for("the rules read before stay wanted");
        write(&file, [1, 2]);
        wait_for(&mut sync, 2);
        drop(sync);

        // Without --watch such a file is an error.
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let (status, said) = run(example("sync").args(["--kernel", "fake"]).arg(&file));
        assert_eq!(status, Some(2), "{said:#?}");
        assert!(said[0].contains(told), "{said:#?}");
    }
}

/// Once: the program waited without a message.
#[test]
fn a_file_that_is_written_all_the_time_is_told() {
    let folder = folder();
    let file = folder.path().join("rules");
    write(&file, [1]);
    let is_written = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while is_written.load(Ordering::Relaxed) {
                write(&file, [1]);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // A panic would leave the other thread running.
        let outcome = std::panic::catch_unwind(|| {
            let mut sync = watch(&file);
            sync.wait_for("is written all the time");
            sync
        });
        is_written.store(false, Ordering::Relaxed);
        let mut sync = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        wait_for(&mut sync, 1);
        let told = sync.said.iter().filter(|line| line.contains("all the time")).count();
        assert_eq!(told, 1, "{:#?}", sync.said);
    });
}

#[test]
fn a_broken_file_is_told_and_changes_nothing() {
    let (_folder, file, mut sync) = watched();
    fs::write(&file, "-A -t nonsense\n").unwrap();
    sync.wait_for("the rules read before stay wanted");
    fs::write(&file, [0xff, 0xfe]).unwrap();
    sync.wait_for("the rules read before stay wanted");
    replace(&file, [1, 2]);
    wait_for(&mut sync, 2);
}

/// Opening a pipe would wait for its writer.
#[test]
fn what_is_no_regular_file_is_told_and_holds_up_nothing() {
    let (_folder, file, mut sync) = watched();
    fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR, 0).unwrap();
    sync.wait_for("no regular file");
    replace(&file, [1, 2]);
    wait_for(&mut sync, 2);
}

/// The first retry is after a second, while the table is read anew only after an hour.
#[test]
fn what_failed_is_tried_again_when_the_report_says() {
    let folder = folder();
    let file = folder.path().join("rules");
    fs::write(&file, "-A -t 10.0.0.1:80 -s nosuch\n").unwrap();
    let mut sync = watch(&file);
    for _ in 0..3 {
        sync.wait_for("nosuch");
        sync.wait_for("modprobe");
    }
}

/// The reason that rules cannot be applied is reported once, and not at each retry.
#[test]
fn what_stands_in_the_way_is_told_once_for_a_file() {
    let folder = folder();
    let file = folder.path().join("rules");
    let text = |scheduler| format!("-A -t 10.0.0.1:80 -s {scheduler}\n");
    fs::write(&file, text("nosuch")).unwrap();
    let mut sync = example("sync");
    sync.args(["--kernel", "fake", "--watch", "--max-age", "1s"]).arg(&file);
    let mut sync = Program::start(&mut sync);
    for _ in 0..3 {
        sync.wait_for("fake: error: ");
    }
    let told =
        |sync: &Program| sync.said.iter().filter(|it| it.contains("fake: refused: ")).count();
    assert_eq!(told(&sync), 1, "{:#?}", sync.said);
    fs::write(&file, text("neither")).unwrap();
    sync.wait_for("ip_vs_neither");
    sync.wait_for("fake: error: ");
    assert_eq!(told(&sync), 2, "{:#?}", sync.said);
}
