use std::net::Ipv4Addr;

use super::*;

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A relay, and both ends of a connection through it.
fn line(delay: Delay) -> (Relay, TcpStream, TcpStream) {
    let target = TcpListener::bind(anywhere()).unwrap();
    let relay = Relay::new(None, anywhere(), target.local_addr().unwrap()).unwrap();
    relay.set_delay(None, delay);
    let dialler = TcpStream::connect(relay.address()).unwrap();
    let (accepted, _) = target.accept().unwrap();
    (relay, dialler, accepted)
}

#[test]
fn bytes_come_in_order_and_the_end_after_them() {
    let (_relay, mut dialler, mut target) = line(Delay::each_way(Duration::from_millis(3)));
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || {
        dialler.write_all(&sent).unwrap();
        dialler.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        dialler.read_to_end(&mut answer).unwrap();
        answer
    });
    let mut got = Vec::new();
    target.read_to_end(&mut got).unwrap();
    assert!(got == expected);
    target.write_all(b"all of it").unwrap();
    drop(target);
    assert_eq!(writer.join().unwrap(), b"all of it");
}

#[test]
fn a_delay_holds_in_its_own_direction_and_can_be_taken_back() {
    let hour = Duration::from_secs(3_600);
    let there = Delay {
        there: hour,
        ..Delay::default()
    };
    let (relay, mut dialler, mut target) = line(there);
    dialler.write_all(b"?").unwrap();
    target.write_all(b"!").unwrap();
    let mut one = [0];
    dialler.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"!");
    // Had it come, it would not wait for the change of the delay.
    target.set_nonblocking(true).unwrap();
    assert_eq!(target.read(&mut one).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    target.set_nonblocking(false).unwrap();
    relay.set_delay(Some(Ipv4Addr::LOCALHOST.into()), Delay::default());
    target.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"?");
}

#[test]
fn a_line_that_is_full_takes_nothing_more() {
    let (_relay, dialler, _target) = line(Delay::each_way(Duration::from_secs(3_600)));
    dialler.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let chunk = vec![7; CHUNK_BYTES_MAX];
    let mut taken = 0;
    while let Ok(count) = (&dialler).write(&chunk) {
        taken += count;
        assert!(taken < 20 * ON_THE_WAY_BYTES_MAX, "where does it all go?");
    }
    assert!(taken >= ON_THE_WAY_BYTES_MAX);
}

#[test]
fn connections_end_with_the_relay_and_with_the_target() {
    let (relay, mut dialler, mut target) = line(Delay::default());
    // Once something has come through, the relay has it among its connections.
    dialler.write_all(b"?").unwrap();
    target.read_exact(&mut [0]).unwrap();
    assert_eq!(relay.connections(), 1);
    drop(relay);
    assert_eq!(dialler.read(&mut [0]).unwrap_or(0), 0);
    drop(target);
    let gone = TcpListener::bind(anywhere()).unwrap().local_addr().unwrap();
    let relay = Relay::new(None, anywhere(), gone).unwrap();
    let mut dialler = TcpStream::connect(relay.address()).unwrap();
    assert_eq!(dialler.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn what_is_swallowed_never_comes_and_nobody_hears_of_it() {
    let hour = Duration::from_secs(3_600);
    let target = TcpListener::bind(anywhere()).unwrap();
    let relay = Relay::new(None, anywhere(), target.local_addr().unwrap()).unwrap();
    relay.set_delay(None, Delay::each_way(hour));
    let mut dialler = TcpStream::connect(relay.address()).unwrap();
    let (mut accepted, _) = target.accept().unwrap();
    dialler.write_all(b"?").unwrap();
    relay.swallow(None);
    relay.set_delay(None, Delay::default());
    dialler.write_all(b"?").unwrap();
    drop(dialler);
    // A connection that is made now is as ever, and behind what could have come.
    let mut dialler = TcpStream::connect(relay.address()).unwrap();
    let (mut second, _) = target.accept().unwrap();
    dialler.write_all(b"!").unwrap();
    let mut one = [0];
    second.read_exact(&mut one).unwrap();
    accepted.set_nonblocking(true).unwrap();
    assert_eq!(
        accepted.read(&mut one).unwrap_err().kind(),
        io::ErrorKind::WouldBlock,
        "neither bytes nor an end"
    );
}
