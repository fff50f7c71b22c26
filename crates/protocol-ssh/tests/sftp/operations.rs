//! Each operation: what is decided, and what the target does.

use std::os::unix::fs::PermissionsExt;

use corral_model::statement::{Attribute, ObjectRole};

use crate::gateway::{allow, no};
use crate::packets::*;
use crate::world::World;

#[tokio::test]
async fn a_version_tells_only_what_is_decided() {
    let (mut world, mut target) = World::scripted(allow).await;
    target
        .greet(&[
            ("posix-rename@openssh.com", "1"),
            ("statvfs@openssh.com", "7"),
            ("vendor-id", "x"),
            ("copy-data", "1"),
        ])
        .await;
    world.client.send(&init().str("newline").str("\n")).await;
    let version = world.client.receive().await;
    let expect =
        Packet::new(2, 3).str("posix-rename@openssh.com").str("1").str("copy-data").str("1");
    assert_eq!(version, expect);
}

#[tokio::test]
async fn opensshs_server_keeps_all_its_extensions() {
    let mut world = World::unopened(allow).await;
    world.client.send(&init()).await;
    let version = world.client.receive().await;
    let text = String::from_utf8_lossy(&version.0).into_owned();
    for name in ["posix-rename@", "statvfs@", "fstatvfs@", "hardlink@", "fsync@", "lsetstat@"] {
        assert!(text.contains(name), "{name}");
    }
    for name in ["limits@", "expand-path@", "copy-data", "home-directory", "users-groups-by-id@"] {
        assert!(text.contains(name), "{name}");
    }
}

#[tokio::test]
async fn names_and_attributes_are_read() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let home = world.text("");
    let home = home.trim_end_matches('/');
    assert_eq!(world.client.ask(&on(STAT, 1, "a")).await.kind(), ATTRS);
    assert_eq!(world.client.ask(&on(LSTAT, 2, "./x/../a")).await.kind(), ATTRS);
    let real = world.client.ask(&on(REALPATH, 3, "")).await;
    assert_eq!(real.kind(), NAME);
    assert_eq!(real.bytes(9), home.as_bytes());
    assert_eq!(world.client.ask(&on(STAT, 4, "/nothing here")).await.status(), 2);
    let directory = world.client.ask(&on(OPENDIR, 5, ".")).await.value();
    let names = world.client.ask(&Packet::new(READDIR, 6).str(&directory)).await;
    assert_eq!((names.kind(), names.number(5)), (NAME, 3));
    assert_eq!(world.client.ask(&Packet::new(READDIR, 7).str(&directory)).await.status(), 1);
    assert_eq!(world.client.ask(&close(8, &directory)).await.status(), 0);
    let expect = [
        format!("allow stat {home}/a"),
        format!("allow lstat {home}/a"),
        format!("allow realpath {home}"),
        "allow stat \"/nothing here\"".to_owned(),
        format!("allow open_directory {home}"),
    ];
    let listed = format!("open_directory {home}");
    let (told, _) = world.leave().await;
    assert_eq!(told.decided(), expect);
    assert_eq!(told.completed("stat \"/nothing here\"")[0].code, "2");
    let listing = &told.completed(&listed)[0];
    assert_eq!((listing.rows, listing.tag.as_str(), listing.code.as_str()), (3, "listed", "0"));
}

#[tokio::test]
async fn changes_reach_the_target_as_they_were_decided() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let client = &mut world.client;
    let mode = |kind: u8, id: u32, path: &str, mode: u32| on(kind, id, path).u32(4).u32(mode);
    assert_eq!(client.ask(&mode(MKDIR, 1, "d", 0o700)).await.status(), 0);
    assert_eq!(client.ask(&on(RENAME, 2, "a").str("d//b")).await.status(), 0);
    assert_eq!(client.ask(&mode(SETSTAT, 3, "d/b", 0o600)).await.status(), 0);
    assert_eq!(client.ask(&on(SYMLINK, 4, "../d/b").str("d/link")).await.status(), 0);
    assert_eq!(client.ask(&on(READLINK, 5, "d/link")).await.bytes(9), b"../d/b");
    let hard = extended(6, "hardlink@openssh.com").str("d/b").str("d/hard");
    assert_eq!(client.ask(&hard).await.status(), 0);
    let posix = extended(7, "posix-rename@openssh.com").str("d/hard").str("d/b2");
    assert_eq!(client.ask(&posix).await.status(), 0);
    let lsetstat = extended(8, "lsetstat@openssh.com").str("d/link").u32(8).u32(1).u32(2);
    assert_eq!(client.ask(&lsetstat).await.status(), 0);
    assert_eq!(client.ask(&extended(9, "statvfs@openssh.com").str("d")).await.kind(), 201);
    assert_eq!(client.ask(&on(REMOVE, 10, "d/b2")).await.status(), 0);
    assert_eq!(client.ask(&on(RMDIR, 11, "d")).await.status(), 4);
    let permissions = std::fs::metadata(world.path("d/b")).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o7777, 0o600);
    let home = world.text("");
    let home = home.trim_end_matches('/').to_owned();
    let (told, _) = world.leave().await;
    let decided = [
        format!("allow mkdir {home}/d mode=0700"),
        format!("allow rename {home}/a {home}/d/b"),
        format!("allow setstat {home}/d/b mode=0600"),
        format!("allow symlink {home}/d/b {home}/d/link content=../d/b"),
        format!("allow readlink {home}/d/link"),
        format!("allow hardlink {home}/d/b {home}/d/hard"),
        format!("allow posix_rename {home}/d/hard {home}/d/b2"),
        format!("allow lsetstat {home}/d/link atime=1 mtime=2"),
        format!("allow statvfs {home}/d"),
        format!("allow remove {home}/d/b2"),
        format!("allow rmdir {home}/d"),
    ];
    assert_eq!(told.decided(), decided);
    let statements = told.statements();
    let rename = &statements[1].facts;
    assert_eq!(rename.attributes["operation"], Attribute::Text("rename".into()));
    assert_eq!(rename.attributes["path"], Attribute::Text(format!("{home}/a")));
    assert_eq!(rename.attributes["new_path"], Attribute::Text(format!("{home}/d/b")));
    assert!(rename.objects.iter().all(|object| object.role == ObjectRole::Write));
    let verbs: Vec<&str> = statements[1].facts.verbs.iter().map(|verb| verb.name).collect();
    assert_eq!(verbs, ["sftp_write"]);
    let verbs: Vec<&str> = statements[5].facts.verbs.iter().map(|verb| verb.name).collect();
    assert_eq!(verbs, ["sftp_read", "sftp_write"], "a hard link gives what it leads to");
}

#[tokio::test]
async fn a_denied_operation_does_not_happen() {
    let mut world = World::new(|statement| {
        match statement.facts.verbs.iter().any(|verb| verb.name == "sftp_write") {
            true => no(),
            false => allow(statement),
        }
    })
    .await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let client = &mut world.client;
    let requests = [
        open(1, "new", WRITING),
        on(REMOVE, 2, "a"),
        on(RENAME, 3, "a").str("b"),
        on(MKDIR, 4, "d").u32(0),
        on(SETSTAT, 5, "a").u32(1).u64(0),
        on(SYMLINK, 6, "a").str("l"),
        extended(7, "hardlink@openssh.com").str("a").str("h"),
        extended(8, "posix-rename@openssh.com").str("a").str("b"),
        // Neither reading nor writing, but emptied: a change all the same.
        open(9, "a", 0x10),
        open(10, "a", 0x11),
    ];
    for request in &requests {
        let answer = client.ask(request).await;
        assert_eq!(answer.status(), 3);
        assert_eq!(answer.text(), "corral: not here (decision d)");
    }
    let sentence = b"corral: not here (decision d)\n";
    let mut told = vec![0; requests.len() * sentence.len()];
    tokio::io::AsyncReadExt::read_exact(&mut world.notice, &mut told).await.unwrap();
    assert_eq!(told, sentence.repeat(requests.len()), "a person reads it too");
    let client = &mut world.client;
    let handle = client.ask(&open(20, "a", READING)).await.value();
    let size = Packet::new(FSETSTAT, 21).str(&handle).u32(1).u64(0);
    assert_eq!(client.ask(&size).await.status(), 3);
    assert_eq!(client.ask(&read(22, &handle, 0, 9)).await.value(), b"abc");
    let left: Vec<_> = std::fs::read_dir(world.home()).unwrap().collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn paths_are_sent_as_they_were_decided() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[("expand-path@openssh.com", "1")]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    let mut id = 0;
    let mut check = async |path: &str, expect: &str| {
        id += 1;
        world.client.send(&on(LSTAT, id, path)).await;
        assert_eq!(target.receive().await, on(LSTAT, id, expect), "{path}");
        target.send(&Packet::new(STATUS, id).u32(2)).await;
        world.client.receive().await;
    };
    check("", "/home/deploy").await;
    check("../../../etc/./shadow", "/etc/shadow").await;
    check("/srv//a/../../root/.ssh/", "/root/.ssh").await;
    check("~root/x", "/home/deploy/~root/x").await;
    check("a\u{2f}b\n", "/home/deploy/a/b\n").await;
    world.client.send(&extended(90, "expand-path@openssh.com").str("~/../x")).await;
    let expect = extended(90, "expand-path@openssh.com").str("/home/x");
    assert_eq!(target.receive().await, expect);
}

#[tokio::test]
async fn what_only_asks_is_answered_or_decided() {
    let mut world = World::new(allow).await;
    let home = world.text("").trim_end_matches('/').to_owned();
    let client = &mut world.client;
    let limits = client.ask(&extended(1, "limits@openssh.com")).await;
    assert_eq!(limits.kind(), EXTENDED_REPLY);
    assert_eq!(limits.0[5..13], 262_144_u64.to_be_bytes());
    assert_eq!(limits.0[29..37], 512_u64.to_be_bytes());
    let expand = |id: u32, path: &str| extended(id, "expand-path@openssh.com").str(path);
    assert_eq!(client.ask(&expand(2, "~")).await.bytes(9), home.as_bytes());
    assert_eq!(client.ask(&expand(3, "~root/x")).await.status(), 8);
    assert_eq!(client.ask(&extended(4, "home-directory").str("daemon")).await.status(), 8);
    assert_eq!(client.ask(&extended(5, "home-directory").str("root")).await.kind(), NAME);
    let ids = extended(6, "users-groups-by-id@openssh.com").str([0, 0, 0, 0]).str([0, 0, 0, 0]);
    let names = client.ask(&ids).await;
    assert_eq!(names.kind(), EXTENDED_REPLY);
    assert!(names.bytes(5).ends_with(b"root"));
    let (told, _) = world.leave().await;
    let decided = [
        format!("allow expand_path {home}"),
        "deny expand_path ~root/x".to_owned(),
        "deny home_directory daemon".to_owned(),
        format!("allow home_directory {home}"),
        "allow names_by_id".to_owned(),
    ];
    assert_eq!(told.decided(), decided);
}
