//! How connections start, and which ones do not.

mod support;

use corral_gate::{Input, Proof};
use corral_model::Secret;
use corral_model::event::CloseReason;
use corral_model::ids::TargetName;
use corral_model::limits;
use corral_model::resource::TargetTlsMode;
use std::time::Instant;
use support::client::*;
use support::{Setting, World, start};

fn world() -> World {
    World::new(Setting::default())
}

#[test]
fn encryption_is_negotiated_before_anything_else() {
    let mut plain = world();
    plain.send(&first(80_877_104, b""));
    assert_eq!(plain.told(), ["N"]);
    plain.send(&ssl_request());
    assert_eq!(plain.told(), ["N"]);

    let mut tls = World::with_start(
        Setting::default(),
        corral_gate::machine::Start { can_tls: true, is_local: false, ..start(Instant::now()) },
    );
    tls.send(&ssl_request());
    assert_eq!(tls.told(), ["S"]);
    assert!(tls.wants_client_tls);
    assert!(!tls.machine.wants().client);
    tls.input(Input::ClientTlsStarted);
    tls.log_in();
    assert!(tls.is_open);
}

#[test]
fn bytes_sent_ahead_of_tls_are_refused() {
    let mut world = World::with_start(
        Setting::default(),
        corral_gate::machine::Start { can_tls: true, ..start(Instant::now()) },
    );
    let stuffed = [ssl_request(), startup(0, &[("user", "ada")])].concat();
    world.send(&stuffed);
    assert!(!world.wants_client_tls);
    assert!(world.told()[0].starts_with("E FATAL 08P01"));
    assert_eq!(world.closed, Some(CloseReason::Protocol));
}

#[test]
fn a_token_is_not_taken_in_clear_from_afar() {
    let mut world = World::with_start(
        Setting::default(),
        corral_gate::machine::Start { is_local: false, ..start(Instant::now()) },
    );
    world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    let told = world.told();
    assert!(told[0].starts_with("E FATAL 28000 corral: a token is accepted inside TLS only"));
}

#[test]
fn refused_startups_say_why() {
    let long = "x".repeat(limits::LOGIN_MESSAGE_BYTES_MAX);
    let base = [("user", "ada"), ("database", "orders")];
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("user", "ada")], "3D000"),
        (&[("database", "orders")], "28000"),
        (&[base[0], base[1], ("replication", "database")], "0A000"),
        (&[base[0], base[1], ("role", "postgres")], "42501 corral: startup parameter \"role\""),
        (&[base[0], base[1], ("options", "-c row_security=off")], "\"row_security\""),
        (&[base[0], base[1], ("options", "-d5")], "\"-d5\""),
        (&[base[0], base[1], ("client_encoding", "UTF-16")], "\"client_encoding\""),
        (&[base[0], base[1], ("application_name", &long)], "08P01"),
    ];
    for (parameters, expect) in cases {
        let mut world = world();
        world.send(&startup(0, parameters));
        let told = world.told();
        assert!(told[0].contains(expect), "{expect}: {told:?}");
        assert!(world.closed.is_some());
        assert!(world.logins.is_empty());
    }
}

#[test]
fn a_client_chooses_how_its_texts_are_read() {
    let mut world = world();
    let parameters = [
        ("user", "ada"),
        ("database", "orders"),
        ("client_encoding", "latin-1"),
        ("options", "-c standard_conforming_strings=off"),
    ];
    world.send(&[startup(0, &parameters), password("crl_token")].concat());
    assert!(world.is_open);
    let sent = world.target.startup.join(" ");
    assert!(sent.ends_with("client_encoding latin-1 standard_conforming_strings off  "), "{sent}");
}

#[test]
fn newer_versions_and_options_are_negotiated() {
    let mut world = world();
    world.send(&startup(9, &[("user", "ada"), ("database", "orders"), ("_pq_.x", "1")]));
    let told = world.told();
    assert_eq!(told[0], format!("v {:?}", b"\0\x03\0\x02\0\0\0\x01_pq_.x\0"));
    assert_eq!(told[1], "R 3");
    let mut old = self::world();
    old.send(&first(0x0002_0000, b"\0"));
    assert!(old.told()[0].contains("0A000 corral: protocol version 2.0"));
}

#[test]
fn settings_and_claims_go_where_they_belong() {
    let mut world = world();
    let parameters = [
        ("user", "ada"),
        ("database", "orders/other"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
        ("options", "-c statement_timeout=5s"),
    ];
    world.send(&[startup(0, &parameters), password("crl_token")].concat());
    assert!(world.is_open);
    assert_eq!(world.logins, [("orders".to_owned(), Some("other".to_owned()))]);
    let claims = [("user", "ada"), ("application_name", "psql")];
    assert_eq!(world.claims, claims.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let sent = world.target.startup.join(" ");
    assert!(sent.contains("application_name psql statement_timeout 5s client_encoding UTF8"));
    assert!(!sent.contains("ada"));
}

#[test]
fn a_dedicated_listener_names_the_target() {
    let target = Some(TargetName::new("orders").expect("a name"));
    let start = corral_gate::machine::Start { target, ..start(Instant::now()) };
    let mut world = World::with_start(Setting::default(), start);
    world.send(&startup(0, &[("user", "ada"), ("database", "shop")]));
    world.send(&password("crl_token"));
    assert_eq!(world.logins, [("orders".to_owned(), Some("shop".to_owned()))]);
}

#[test]
fn who_was_shown_before_is_asked_for_nothing_and_admitted_as_anybody() {
    let check = |token: &str| {
        let shown = Some(Proof::Token(Secret::new(token.to_owned())));
        let start = corral_gate::machine::Start { shown, ..start(Instant::now()) };
        let mut world = World::with_start(Setting::default(), start);
        world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
        world
    };
    let mut good = check("crl_token");
    assert!(good.is_open && good.logins == [("orders".to_owned(), None)]);
    assert_eq!(good.told()[0], "R 0");
    let mut bad = check("crl_other");
    assert_eq!(bad.told(), ["E FATAL 28P01 corral: no such token"]);
    assert!(!bad.is_open && bad.target.startup.is_empty());
    // What was shown is good for one login; a password afterwards is no message of the session.
    let mut twice = check("crl_token");
    twice.send(&password("crl_token"));
    assert_eq!(twice.closed, Some(CloseReason::Protocol));
}

#[test]
fn a_wrong_token_ends_the_connection() {
    let mut world = world();
    world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    world.send(&password("crl_other"));
    let told = world.told();
    assert_eq!(told[1], "E FATAL 28P01 corral: no such token");
    assert!(world.target.startup.is_empty(), "the target heard nothing");
}

#[test]
fn a_client_that_says_nothing_is_disconnected() {
    for bytes in [b"".as_slice(), b"\0", &startup(0, &[("user", "ada"), ("database", "orders")])] {
        let mut world = world();
        world.send(bytes);
        world.told();
        world.later(limits::LOGIN_DEADLINE);
        assert_eq!(world.closed, Some(CloseReason::Idle));
        assert!(world.told()[0].starts_with("E FATAL 57014"));
    }
}

#[test]
fn a_target_without_tls_is_not_spoken_to_in_clear() {
    let setting = Setting { tls: TargetTlsMode::Require, ..Setting::default() };
    let mut world = World::new(setting.clone());
    world.target.tls_answer = b'N';
    world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    world.send(&password("crl_token"));
    assert!(world.told()[1].contains("08006 corral: the target cannot be used: it has no TLS"));
    assert!(world.target.startup.is_empty());

    let mut world = World::new(setting);
    world.log_in();
    assert!(world.is_open);
}

#[test]
fn a_target_that_asks_for_a_password_gets_the_configured_one() {
    let mut world = World::new(Setting { password: Some("service pw"), ..Setting::default() });
    world.target.asks_password = true;
    world.log_in();

    let mut world = World::new(Setting::default());
    world.target.asks_password = true;
    world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    world.send(&password("crl_token"));
    assert!(world.told()[1].contains("none is configured here"));
}

#[test]
fn a_password_goes_in_clear_only_to_a_target_that_is_known() {
    let cases = [
        (TargetTlsMode::Disable, true, true),
        (TargetTlsMode::Disable, false, false),
        (TargetTlsMode::Require, false, false),
        (TargetTlsMode::VerifyFull, false, true),
    ];
    for (tls, is_target_local, expect) in cases {
        let password_set = Some("service pw");
        let setting =
            Setting { tls, is_target_local, password: password_set, ..Setting::default() };
        let mut world = World::new(setting);
        world.target.asks_password = true;
        world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
        world.send(&password("crl_token"));
        let told = world.told();
        assert_eq!(world.is_open, expect, "{tls:?}, local: {is_target_local}");
        if !expect {
            assert!(told[1].contains("it asks for a password in clear"), "{told:?}");
        }
    }
}

#[test]
fn what_a_target_says_against_the_login_is_not_shown() {
    let mut world = world();
    world.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    world.target.asks_password = true;
    world.setting.password = Some("x");
    let answer = support::target::error("FATAL", "28P01", "password for user service on 10.0.0.1");
    // The target refuses instead of asking.
    world.machine.buffers().client_in.extend_from_slice(&password("crl_token"));
    world.machine.handle(Input::ClientReadable, world.now);
    while let Some(output) = world.machine.poll_output() {
        if matches!(output, corral_gate::Output::Admit(_)) {
            break;
        }
    }
    let mut fresh = World::new(Setting { password: Some("x"), ..Setting::default() });
    fresh.target.asks_password = true;
    fresh.send(&startup(0, &[("user", "ada"), ("database", "orders")]));
    fresh.told();
    fresh.target = support::target::FakeTarget::default();
    fresh.target.tls_answer = b'S';
    fresh.machine.buffers().target_in.extend_from_slice(&answer);
    fresh.send(&password("crl_token"));
    let told = fresh.told();
    assert!(!told.join("\n").contains("10.0.0.1"), "{told:?}");
}

#[test]
fn random_bytes_end_in_a_clear_error_or_a_wait() {
    let mut state = 7_u64;
    for _ in 0..2_000 {
        let mut bytes = Vec::new();
        for _ in 0..64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((state >> 56) as u8);
        }
        let mut world = world();
        world.send(&bytes);
        let told = world.told();
        assert!(told.iter().all(|line| line.starts_with("E FATAL")), "{told:?}");
    }
}
