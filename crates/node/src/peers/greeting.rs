//! Whether two nodes have anything to say to each other.

use types::EngineVersion;
use wire::peer::{Hello, Refusal, RefusalCode, Role};

use super::ExpectedPeer;
use super::name::PeerName;

/// Compares what the other side says of itself with its certificate and with us. Answers the protocol version to speak.
pub(super) fn judge(
    own: &Hello,
    other: &Hello,
    certificate: &PeerName,
    expected: Option<&ExpectedPeer>,
    is_member: bool,
    in_force: EngineVersion,
) -> Result<u16, Refusal> {
    let refuse = |code, text: String| Err(Refusal { code, text });
    let (here, there) = (own.node, other.node);
    if other.cluster != own.cluster {
        let text = format!(
            "node {here} is of cluster {}, and you are of {}: check peers' addresses and data folders",
            own.cluster, other.cluster
        );
        return refuse(RefusalCode::OtherCluster, text);
    }
    if other.group != own.group {
        let text = format!(
            "node {here} is of group {}, and you are of {}: check the addresses of the peers",
            own.group, other.group
        );
        return refuse(RefusalCode::OtherGroup, text);
    }
    if (certificate.cluster, certificate.node, certificate.role) != (other.cluster, other.node, other.role) {
        let text = format!(
            "you say that you are {} {there}, and your certificate is of {certificate}: give each node its own",
            other.role
        );
        return refuse(RefusalCode::NotItsCertificate, text);
    }
    if let Some(ExpectedPeer { region, role }) = expected
        && (*role != certificate.role || region.is_some_and(|region| region != certificate.region))
    {
        let region = region.map(|region| format!(" of region {region}")).unwrap_or_default();
        let text = format!(
            "node {there} is the {role}{region} here, and your certificate is of {certificate}: compare [sites] on both sides, \
             or issue another certificate"
        );
        return refuse(RefusalCode::NotItsCertificate, text);
    }
    if !is_member {
        let text = format!("node {there} is not a member of the group: add it first, then it is let in by itself");
        return refuse(RefusalCode::NotAMember, text);
    }
    if other.incarnation != own.incarnation {
        let text = format!(
            "node {here} lives in incarnation {} of the group, and you in {}: the one with the older incarnation must be \
             made anew from the others",
            own.incarnation, other.incarnation
        );
        return refuse(RefusalCode::OtherIncarnation, text);
    }
    if other.reads.engine < in_force.0 {
        let text = format!(
            "engine version {in_force} is in force, and you run {}, which knows versions up to {}: install the release that \
             node {here} runs ({}) and start again",
            other.program, other.reads.engine, own.program
        );
        return refuse(RefusalCode::EngineVersion, text);
    }
    // A gateway's copy of the state begins anew with each start, and its quarantine with it.
    let keep = |hello: &Hello| hello.quarantined.filter(|_| hello.role == Role::Node);
    if let (Some(ours), Some(theirs)) = (keep(own), keep(other))
        && ours != theirs
    {
        let text = format!(
            "node {here} has quarantined {ours}, and you (node {there}) {theirs}: all nodes must have quarantined the same. Compare \
             the files `quarantine` in their journals' folders; stop the node that lacks a sequence, run `meridian journal \
             quarantine SEQUENCE` on it (with --as-others if its journal does not hold the command), and start it again"
        );
        return refuse(RefusalCode::OtherQuarantine, text);
    }
    match own.common_protocol(other) {
        Some(version) => Ok(version),
        None => refuse(
            RefusalCode::NoCommonVersion,
            format!(
                "node {here} runs {} and speaks versions {} to {}, you run {} and speak {} to {}: upgrade the older one, one \
                 release at a time",
                own.program, own.protocol_min, own.protocol_max, other.program, other.protocol_min, other.protocol_max
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use types::{GroupId, Incarnation, Sequence, Timestamp};
    use wire::journal::NodeId;
    use wire::peer::{Quarantined, REFUSAL_TEXT_BYTES_MAX, ReadableVersions, program_version};

    use super::*;

    fn hello(node: u64) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 2,
            reads: ReadableVersions {
                engine: 2,
                ..ReadableVersions::default()
            },
            cluster: "test".parse().unwrap(),
            group: GroupId(1),
            incarnation: Incarnation(1),
            node: NodeId(node),
            role: Role::Node,
            program: program_version("0.1.0").unwrap(),
            sent_at: Timestamp(1),
            quarantined: Some(Quarantined::of(&BTreeSet::from([Sequence(7)]))),
        }
    }

    #[test]
    fn each_difference_is_named() {
        let certificate: PeerName = "spiffe://meridian/test/uae/2/node".parse().unwrap();
        let check = |change: fn(&mut Hello), member, expected: Result<u16, RefusalCode>| {
            let mut other = hello(2);
            change(&mut other);
            let judged = judge(&hello(1), &other, &certificate, None, member, EngineVersion(2));
            if let Err(refusal) = &judged {
                assert!(refusal.text.len() <= REFUSAL_TEXT_BYTES_MAX);
            }
            assert_eq!(judged.map_err(|refusal| refusal.code), expected);
        };
        check(|_| {}, true, Ok(2));
        check(|other| other.reads.engine = 3, true, Ok(2));
        check(|other| other.reads.engine = 1, true, Err(RefusalCode::EngineVersion));
        // A program of before there was such a comparison.
        check(|other| other.quarantined = None, true, Ok(2));
        for others in [&[][..], &[8], &[7, 8]] {
            let others = Quarantined::of(&others.iter().copied().map(Sequence).collect());
            let mut other = hello(2);
            other.quarantined = Some(others);
            let refusal = judge(&hello(1), &other, &certificate, None, true, EngineVersion(2)).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::OtherQuarantine);
            assert!(refusal.text.contains("meridian journal quarantine"), "{}", refusal.text);
            assert!(refusal.text.len() <= REFUSAL_TEXT_BYTES_MAX, "{}", refusal.text.len());
        }
        check(|other| other.protocol_max = 1, true, Ok(1));
        check(
            |other| other.cluster = "other".parse().unwrap(),
            true,
            Err(RefusalCode::OtherCluster),
        );
        check(|other| other.group = GroupId(2), true, Err(RefusalCode::OtherGroup));
        check(
            |other| other.incarnation = Incarnation(2),
            true,
            Err(RefusalCode::OtherIncarnation),
        );
        check(
            |other| other.node = NodeId(3),
            true,
            Err(RefusalCode::NotItsCertificate),
        );
        check(
            |other| other.role = Role::Gateway,
            true,
            Err(RefusalCode::NotItsCertificate),
        );
        check(|_| {}, false, Err(RefusalCode::NotAMember));
        check(
            |other| (other.protocol_min, other.protocol_max) = (3, 4),
            true,
            Err(RefusalCode::NoCommonVersion),
        );
    }

    #[test]
    fn a_peer_is_where_it_is_expected_and_what() {
        let certificate: PeerName = "spiffe://meridian/test/uae/2/node".parse().unwrap();
        for (region, role, lets_in) in [
            (None, Role::Node, true),
            (Some("uae"), Role::Node, true),
            (Some("singapore"), Role::Node, false),
            (None, Role::Witness, false),
        ] {
            let region = region.map(|region| region.parse().unwrap());
            let expected = ExpectedPeer { region, role };
            let judged = judge(
                &hello(1),
                &hello(2),
                &certificate,
                Some(&expected),
                true,
                EngineVersion(2),
            );
            assert_eq!(judged.is_ok(), lets_in, "{expected:?}");
            if let Err(refusal) = judged {
                assert_eq!(refusal.code, RefusalCode::NotItsCertificate);
                assert!(refusal.text.len() <= REFUSAL_TEXT_BYTES_MAX);
            }
        }
    }
}
