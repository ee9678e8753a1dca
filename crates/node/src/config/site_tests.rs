//! Tests of `[sites]`.

use std::path::Path;

use types::RegionId;
use wire::journal::NodeId;

use super::*;

/// A node of two regions, with lines of `[sites]` left out, changed or added by whoever asks.
fn text(change: impl Fn(&str) -> Option<String>) -> String {
    let sites = [
        "region = \"uae\"",
        "first_active = \"uae\"",
        "lease_voters = [1, 11, 99]",
        "witness = { node = 99, address = \"w:1\" }",
        "lease_ms = 4000",
    ];
    let uae = [
        "id = 1",
        "name = \"uae\"",
        "url = \"https://uae\"",
        "nodes = { 1 = \"a:1\", 2 = \"b:1\" }",
    ];
    let singapore = ["id = 2", "name = \"singapore\"", "nodes = { 11 = \"c:1\" }"];
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .filter_map(|line| change(line))
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!(
        "[node]\ndata = \"d\"\n[peers]\ncertificate = \"c\"\nprivate_key = \"k\"\nca = \"a\"\n[sites]\n{}\n\
         [[sites.regions]]\n{}\n[[sites.regions]]\n{}\n",
        lines(&sites),
        lines(&uae),
        lines(&singapore),
    )
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("meridian.toml"), text)
}

#[test]
fn two_regions_and_a_witness_are_read() {
    let config = parse(&text(|line| Some(line.to_owned()))).unwrap();
    let sites = config.sites.sites().unwrap();
    assert_eq!((sites.region, sites.first_active), (Some(RegionId(1)), RegionId(1)));
    assert_eq!(sites.lease_voters, [1, 11, 99].map(NodeId));
    let addresses = [(1, "a:1"), (2, "b:1"), (11, "c:1"), (99, "w:1")];
    let addresses = addresses.map(|(node, address)| (NodeId(node), address.to_owned()));
    assert_eq!(sites.addresses(), addresses.into());
    let (other, site) = sites.other(RegionId(1)).unwrap();
    assert_eq!((other, site.name.as_str()), (RegionId(2), "singapore"));
    // The witness's own.
    let witness = parse(&text(|line| (!line.starts_with("region")).then(|| line.to_owned()))).unwrap();
    assert_eq!(witness.sites.sites().unwrap().region, None);
}

#[test]
fn each_fault_of_the_sites_is_said_by_its_key() {
    for (from, to, said) in [
        ("region = \"uae\"", "region = \"mars\"", "sites.region: it is none of"),
        (
            "first_active",
            "first_active = \"mars\"",
            "sites.first_active: it is none of",
        ),
        ("id = 2", "id = 1", "sites.regions: ids must differ"),
        ("id = 2", "id = 0", "sites.regions: ids must differ and be more than 0"),
        (
            "name = \"singapore\"",
            "name = \"uae\"",
            "sites.regions: names must differ",
        ),
        (
            "name = \"singapore\"",
            "name = \"Sing\"",
            "sites.regions: a name must be",
        ),
        (
            "nodes = { 11",
            "nodes = { x = \"c:1\" }",
            "sites.regions.nodes: a node's id",
        ),
        (
            "nodes = { 11",
            "nodes = { 1 = \"c:1\" }",
            "node ids must differ over all sites",
        ),
        (
            "witness",
            "witness = { node = 11, address = \"w:1\" }",
            "node ids must differ over all sites",
        ),
        ("witness", "", "sites.witness: it is required"),
        (
            "lease_voters",
            "lease_voters = [1, 11]",
            "sites.lease_voters: they must be",
        ),
        (
            "lease_voters",
            "lease_voters = [1, 2, 99]",
            "sites.lease_voters: they must be",
        ),
        (
            "lease_voters",
            "lease_voters = [1, 11, 12]",
            "sites.lease_voters: they must be",
        ),
        ("lease_ms", "lease_ms = 499", "sites.lease_ms: it must be between"),
        ("lease_ms", "lease_ms = 120001", "sites.lease_ms: it must be between"),
        ("lease_ms", "drift_ppm = 100001", "sites.drift_ppm: more than"),
        (
            "lease_ms",
            "degrade_after_ms = 9",
            "sites.degrade_after_ms: it must be between",
        ),
        (
            "lease_ms",
            "lag = { slow_from = 2, refuse_from = 1 }",
            "sites.lag: slow_from",
        ),
        (
            "lease_ms",
            "listen = \"127.0.0.1:7414\"",
            "peers.listen and sites.listen: both are 127.0.0.1:7414",
        ),
        ("lease_ms", "lease = 1", "unknown field `lease`"),
        ("lease_ms", "durability = \"both\"", "unknown variant `both`"),
        ("lease_ms", "promotion = \"never\"", "unknown variant `never`"),
    ] {
        let text = text(|line| Some(if line.starts_with(from) { to } else { line }.to_owned()));
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(said), "{to:?} gave {message:?}");
    }
    let one_region = text(|line| Some(line.to_owned()));
    let at = one_region.rfind("[[sites.regions]]").unwrap();
    let message = parse(&one_region[..at]).unwrap_err().to_string();
    assert!(message.contains("sites.regions: there must be two"), "{message}");
    let no_certificate =
        text(|line| Some(line.to_owned())).replace("certificate = \"c\"\nprivate_key = \"k\"\nca = \"a\"\n", "");
    let message = parse(&no_certificate).unwrap_err().to_string();
    assert!(
        message.contains("sites.region: a region's nodes need [peers]"),
        "{message}"
    );
}
