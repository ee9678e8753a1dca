//! `meridian cluster`: an authority and certificates that nodes can use.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use node::peers::{PeerFiles, PeerTls};
use wire::journal::NodeId;
use wire::peer::Role;

fn meridian(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = meridian(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], said: &str) {
    let output = meridian(folder, arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && message.contains(said), "{message}");
}

#[test]
fn an_authority_and_its_certificates_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let init = ["cluster", "init-ca", "--out", "ca", "--cluster", "my-exchange"];
    let said = done(folder, &init);
    assert!(
        said.contains("my-exchange") && said.contains("cluster issue --ca ca"),
        "{said}"
    );
    let before = std::fs::read(folder.join("ca/ca.key")).unwrap();
    refused(folder, &init, "is there already; nothing was changed");
    assert_eq!(std::fs::read(folder.join("ca/ca.key")).unwrap(), before);
    let unnamed = ["cluster", "init-ca", "--out", "x", "--cluster", "My Exchange"];
    refused(folder, &unnamed, "as the cluster's id");

    let issue = [
        "cluster", "issue", "--ca", "ca", "--node", "2", "--region", "uae", "--out", "n2",
    ];
    let said = done(folder, &issue);
    assert!(
        said.contains("spiffe://meridian/my-exchange/uae/2/node") && said.contains("[peers]"),
        "{said}"
    );
    refused(folder, &issue, "is there already; nothing was changed");
    let gateway = ["--node", "3", "--role", "gateway", "--days", "1", "--region", "uae"];
    done(
        folder,
        &[&["cluster", "issue", "--ca", "ca", "--out", "g3"], &gateway[..]].concat(),
    );
    for path in ["ca/ca.key", "n2/node.key", "g3/node.key"] {
        let mode = std::fs::metadata(folder.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let load = |name: &str, node, role| {
        let file = |file: &str| folder.join(name).join(file);
        let files = PeerFiles {
            certificate: file("node.pem"),
            private_key: file("node.key"),
            ca: file("ca.pem"),
        };
        PeerTls::load(&files, "my-exchange".parse().unwrap(), NodeId(node), role)
    };
    let node = load("n2", 2, Role::Node).unwrap();
    let gateway = load("g3", 3, Role::Gateway).unwrap();
    assert!(gateway.expires_at() < node.expires_at());
    assert_eq!(node.name().region.as_str(), "uae");
    load("g3", 3, Role::Node).unwrap_err();

    for (arguments, said) in [
        (["--ca", "ca", "--node", "0", "--region", "uae"], "0 is not in 1.."),
        (["--ca", "ca", "--node", "1", "--region", "UAE"], "as a region"),
        (
            ["--ca", "nothing", "--node", "1", "--region", "uae"],
            "read nothing/ca.pem",
        ),
    ] {
        let arguments = [&["cluster", "issue", "--out", "x"], &arguments[..]].concat();
        refused(folder, &arguments, said);
    }
    // A node's certificate signs nothing, and neither does another authority's key.
    std::fs::create_dir(folder.join("mixed")).unwrap();
    for (certificate, key, said) in [
        ("n2/node.pem", "n2/node.key", "was not made as a cluster's authority"),
        ("ca/ca.pem", "n2/node.key", "does not belong to its certificate"),
    ] {
        std::fs::copy(folder.join(certificate), folder.join("mixed/ca.pem")).unwrap();
        std::fs::copy(folder.join(key), folder.join("mixed/ca.key")).unwrap();
        let arguments = [
            "cluster", "issue", "--ca", "mixed", "--node", "1", "--region", "uae", "--out", "x",
        ];
        refused(folder, &arguments, said);
    }
}
