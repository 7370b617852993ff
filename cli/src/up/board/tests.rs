//! The picture of a small mesh.

use std::path::Path;
use std::time::Duration;

use countersign_policy::yaml;

use super::*;
use crate::output::Palette;
use crate::up::addresses;
use crate::up::decisions::Decision;
use crate::up::mesh::Mesh;
use crate::up::process::Ending;
use crate::up::topology::Topology;

const MESH: &str = r#"
trustDomain: shop.example
policy: {repository: ./policy}
workloads:
- {name: web, namespace: shop, command: [web], calls: ["orders.shop:8080"]}
- {name: orders, namespace: shop, command: [orders], ports: [{port: 8080}]}
"#;

fn board() -> Board {
    let mesh: Mesh = yaml::read("mesh.yaml", MESH, |value| {
        crate::up::mesh::from_yaml(value, Path::new("/"))
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let claim = addresses::claim(directory.path()).unwrap();
    let topology = Topology::new(&mesh, claim.subnet).unwrap();
    let lines = Lines {
        trust_domain: "shop.example".to_owned(),
        palette: Palette::PLAIN,
    };
    Board::new(&topology.instances, lines)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_434_001)
}

fn who(role: Role, name: &str) -> Who {
    Who {
        role,
        name: name.to_owned(),
    }
}

fn note(board: &mut Board, event: Event) {
    board.note(&Stamped { time: now(), event });
}

#[test]
fn the_picture_shows_who_is_up_and_what_was_decided() {
    let mut board = board();
    let revision = Some("3f2c1ab5e5".to_owned());
    note(&mut board, Event::Ready(who(Role::Ca, "ca")));
    note(&mut board, Event::Starting(who(Role::Control, "control")));
    note(&mut board, Event::Ready(who(Role::Sidecar, "orders")));
    note(&mut board, Event::Ready(who(Role::Workload, "orders")));
    note(
        &mut board,
        Event::PolicyTaken {
            revision: "3f2c1ab5e5".to_owned(),
        },
    );
    note(
        &mut board,
        Event::PolicyAt {
            workload: "orders".to_owned(),
            revision,
            error: None,
        },
    );
    let not_after = now() + Duration::from_secs(42 * 60);
    note(
        &mut board,
        Event::SvidUntil {
            workload: "orders".to_owned(),
            not_after,
        },
    );
    for (decision, count) in [("allow", 3), ("deny", 2)] {
        for _ in 0..count {
            let line = format!(r#"{{"decision":"{decision}","destination":"shop/orders"}}"#);
            let decision = Box::new(Decision::parse(&line).unwrap());
            note(
                &mut board,
                Event::Decided {
                    workload: "orders".to_owned(),
                    decision,
                },
            );
        }
    }
    let picture: Vec<_> = board
        .picture(40, now())
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect();
    assert_eq!(
        picture[..5],
        [
            "shop.example   CA ready   control plane starting   policy 3f2c1ab",
            "",
            "WORKLOAD  SPIFFE ID                                STATE     SIDECAR   SVID       POLICY          ALLOWED  DENIED",
            "web       spiffe://shop.example/ns/shop/sa/web     waiting   waiting   -          -                     0       0",
            "orders    spiffe://shop.example/ns/shop/sa/orders  ready     ready     42m        3f2c1ab               3       2",
        ]
    );
    assert_eq!(
        picture.iter().filter(|line| line.contains("DENY")).count(),
        2
    );
}

#[test]
fn the_picture_never_outgrows_the_terminal_and_ends_with_what_is_newest() {
    let mut board = board();
    for number in 0..300 {
        let ending = Ending {
            how: format!("exit status {number}"),
            last_lines: Vec::new(),
        };
        let again_in = Duration::from_secs(1);
        note(
            &mut board,
            Event::Died {
                who: who(Role::Workload, "web"),
                ending,
                again_in,
            },
        );
    }
    for height in 0..60 {
        let picture = board.picture(height, now());
        assert!(
            picture.len() <= height.max(2),
            "{height}: {}",
            picture.len()
        );
    }
    let picture = board.picture(24, now()).join("\n");
    assert!(picture.contains("exit status 299"), "{picture}");
    assert!(!picture.contains("exit status 100"), "{picture}");
}
