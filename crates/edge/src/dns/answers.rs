//! From a question's bytes to an answer's. No I/O.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::config::{Config, ZoneConfig, name_of};
use crate::figures::DnsOutcome;

/// Bytes of an answer over UDP to who says nothing about it (RFC 1035, section 4.2.1).
const UDP_BYTES: usize = 512;
/// Bytes of one to who can take more, so that it isn't cut into fragments (RFC 9715).
const UDP_BYTES_MAX: u16 = 1_232;
/// Bytes of one over TCP.
const TCP_BYTES_MAX: usize = 65_535;
/// Bytes of a header (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;
/// How long name servers and the zone's own record may be kept, in seconds. They don't change with the active region.
const FIXED_TTL_SECONDS: u32 = 3_600;
/// For servers that copy the zone, which none does: how often they look, how soon again, and when they give up, in seconds.
const REFRESH_SECONDS: i32 = 3_600;
const RETRY_SECONDS: i32 = 600;
const EXPIRE_SECONDS: i32 = 604_800;

/// What is answered at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The region whose addresses are told, by its place in the configuration.
    pub region: Option<usize>,
    /// The highest epoch; zones have it as their serial, so that it is the same on every edge.
    pub epoch: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replied {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it says.
    pub outcome: DnsOutcome,
}

/// Knows zones and regions' addresses.
#[derive(Debug)]
pub struct Answerer {
    ttl_seconds: u32,
    zones: Vec<Zone>,
    /// For each region.
    addresses: Vec<Vec<IpAddr>>,
}

#[derive(Debug)]
struct Zone {
    apex: Name,
    hostmaster: Name,
    servers: Vec<(Name, Vec<IpAddr>)>,
    names: Vec<Name>,
}

impl Zone {
    fn new(config: &ZoneConfig) -> Self {
        let name = |text: &String| name_of(text).expect("the configuration was checked");
        Self {
            apex: name(&config.name),
            hostmaster: name(&config.hostmaster),
            servers: config
                .name_servers
                .iter()
                .map(|server| (name(&server.name), server.addresses.clone()))
                .collect(),
            names: config.names.iter().map(name).collect(),
        }
    }

    /// Whether a name is there: its own, or one that others lie under (RFC 8020).
    fn has(&self, name: &Name) -> bool {
        let servers = self.servers.iter().map(|(name, _)| name);
        let mut all = servers.filter(|server| self.apex.zone_of(server)).chain(&self.names);
        *name == self.apex || all.any(|there| name.zone_of(there))
    }

    fn soa(&self, picture: Picture, ttl_seconds: u32) -> Record {
        // A serial has 32 bits and wraps (RFC 1982).
        let serial = (picture.epoch & u64::from(u32::MAX)) as u32;
        let negative = ttl_seconds.min(FIXED_TTL_SECONDS);
        let soa = SOA::new(
            self.servers[0].0.clone(),
            self.hostmaster.clone(),
            serial,
            REFRESH_SECONDS,
            RETRY_SECONDS,
            EXPIRE_SECONDS,
            negative,
        );
        Record::from_rdata(self.apex.clone(), negative, RData::SOA(soa))
    }
}

/// Records of an answer, by section.
#[derive(Default)]
struct Sections {
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Answerer {
    /// For a configuration that was checked.
    pub fn new(config: &Config) -> Self {
        Self {
            ttl_seconds: config.dns.ttl_seconds,
            zones: config.dns.zones.iter().map(Zone::new).collect(),
            addresses: config.regions.iter().map(|region| region.public.clone()).collect(),
        }
    }

    /// Answers a question that came over UDP, or over TCP. What must not be answered at all has no answer: what is too
    /// short, and answers, so that two servers don't keep each other busy.
    pub fn answer(&self, question: &[u8], over_tcp: bool, picture: Picture) -> Option<Replied> {
        if question.len() < HEADER_BYTES || question[2] & 0x80 != 0 {
            return None;
        }
        let id = u16::from_be_bytes([question[0], question[1]]);
        let Ok(asked) = Message::from_vec(question) else {
            let op_code = OpCode::from_u8((question[2] >> 3) & 0x0f);
            let reply = Message::error_msg(id, op_code, ResponseCode::FormErr);
            return to_bytes(&reply, DnsOutcome::Malformed);
        };
        let mut reply = Message::new(id, MessageType::Response, asked.metadata.op_code);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        let outcome = self.fill(&asked, &mut reply, picture);
        let mut bytes_max = if over_tcp { TCP_BYTES_MAX } else { UDP_BYTES };
        if let Some(edns) = &asked.edns {
            let mut own = Edns::new();
            own.set_version(0).set_max_payload(UDP_BYTES_MAX);
            reply.set_edns(own);
            if !over_tcp {
                bytes_max = usize::from(edns.max_payload().clamp(UDP_BYTES as u16, UDP_BYTES_MAX));
            }
        }
        let whole = to_bytes(&reply, outcome)?;
        if whole.bytes.len() <= bytes_max {
            return Some(whole);
        }
        to_bytes(&without_records(&mut reply, true), outcome)
    }

    /// Fills in what is said.
    fn fill(&self, asked: &Message, reply: &mut Message, picture: Picture) -> DnsOutcome {
        if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            reply.add_queries(asked.queries.iter().cloned());
            reply.metadata.response_code = ResponseCode::BADVERS;
            return DnsOutcome::Malformed;
        }
        if asked.metadata.op_code != OpCode::Query {
            reply.metadata.response_code = ResponseCode::NotImp;
            return DnsOutcome::Refused;
        }
        let [query] = asked.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return DnsOutcome::Malformed;
        };
        reply.add_query(query.clone());
        let name = query.name();
        let zones = self.zones.iter().filter(|zone| zone.apex.zone_of(name));
        let zone = zones.max_by_key(|zone| zone.apex.num_labels());
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        let Some(zone) = zone.filter(|_| query.query_class() == DNSClass::IN && !transfer) else {
            reply.metadata.response_code = ResponseCode::Refused;
            return DnsOutcome::Refused;
        };
        if zone.names.contains(name) && picture.region.is_none() {
            reply.metadata.response_code = ResponseCode::ServFail;
            return DnsOutcome::Failed;
        }
        reply.metadata.authoritative = true;
        let mut sections = self.sections(zone, query, picture);
        let outcome = match (sections.answers.is_empty(), zone.has(name)) {
            (false, _) => DnsOutcome::Answer,
            (true, true) => DnsOutcome::NoData,
            (true, false) => DnsOutcome::NoName,
        };
        if outcome != DnsOutcome::Answer {
            // RFC 2308, section 3: how long it may be remembered that there is nothing.
            sections.authorities.push(zone.soa(picture, self.ttl_seconds));
        }
        if outcome == DnsOutcome::NoName {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply.add_answers(sections.answers);
        reply.add_authorities(sections.authorities);
        reply.add_additionals(sections.additionals);
        outcome
    }

    /// The records of a name that are asked for. Of all types one is told (RFC 8482, section 4.1).
    fn sections(&self, zone: &Zone, query: &Query, picture: Picture) -> Sections {
        let name = query.name();
        let mut sections = Sections::default();
        let wanted = |kind: RecordType| query.query_type() == kind;
        let any = wanted(RecordType::ANY);
        let at_apex = *name == zone.apex;
        if at_apex && (wanted(RecordType::SOA) || any) {
            sections.answers.push(zone.soa(picture, self.ttl_seconds));
            return sections;
        }
        if at_apex && wanted(RecordType::NS) {
            for (server, addresses) in &zone.servers {
                let server_is = RData::NS(NS(server.clone()));
                let record = Record::from_rdata(name.clone(), FIXED_TTL_SECONDS, server_is);
                sections.answers.push(record);
                let glue = addresses
                    .iter()
                    .map(|address| record_of(server, *address, FIXED_TTL_SECONDS));
                sections.additionals.extend(glue);
            }
            return sections;
        }
        let leading = picture.region.filter(|_| zone.names.contains(name));
        let leading = leading.map(|region| (&self.addresses[region], self.ttl_seconds));
        let server = zone.servers.iter().find(|(server, _)| server == name);
        let server = server.map(|(_, addresses)| (addresses, FIXED_TTL_SECONDS));
        if let Some((addresses, ttl_seconds)) = leading.or(server) {
            // The name is told as it was asked for, capitals included.
            let records = addresses.iter().map(|address| record_of(name, *address, ttl_seconds));
            let mut records: Vec<Record> = records.collect();
            let one = records.first().map(Record::record_type);
            records.retain(|record| wanted(record.record_type()) || (any && Some(record.record_type()) == one));
            sections.answers = records;
        }
        sections
    }

    /// The answer to a question above the rate limit that says nothing but to ask over TCP; `None` if there is no such
    /// answer.
    pub fn truncated(&self, question: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        reply.add_queries(asked.queries.into_iter().take(1));
        without_records(&mut reply, false).to_vec().ok()
    }
}

/// The same answer without its records, marked as truncated.
fn without_records(reply: &mut Message, keep_edns: bool) -> Message {
    drop(reply.take_all_sections());
    let mut short = reply.clone();
    short.answers.clear();
    short.authorities.clear();
    short.additionals.clear();
    if !keep_edns {
        short.edns = None;
    }
    short.metadata.truncation = true;
    short
}

fn record_of(name: &Name, address: IpAddr, ttl_seconds: u32) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), ttl_seconds, data)
}

fn to_bytes(reply: &Message, outcome: DnsOutcome) -> Option<Replied> {
    match reply.to_vec() {
        Ok(bytes) => Some(Replied { bytes, outcome }),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            None
        }
    }
}
