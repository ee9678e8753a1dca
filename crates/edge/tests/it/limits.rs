//! How much is let in, how long it may stay, and how an edge ends.

use tokio::net::TcpStream;

use crate::support::{Client, FRONT, TestEdge, TestNode, config, until};

#[tokio::test]
async fn one_too_many_is_closed_and_counted() {
    let node = TestNode::start("one", Some((true, 1))).await;
    for (limits, reason) in [
        ("connections_max = 2", "full"),
        ("connections_per_source_max = 2", "source_full"),
    ] {
        let more = format!("{FRONT}[connections]\n{limits}\n");
        let edge = TestEdge::start(config(&[("east", &[&node])], &more)).await;
        edge.follows("east", 1, 1).await;
        let (first, _) = edge.connect().await;
        let (mut second, _) = edge.connect().await;
        let (third, name) = edge.connect().await;
        assert_eq!(name, "");
        third.ends().await;
        let figure = format!("meridian_edge_refused_total{{reason=\"{reason}\"}}");
        edge.figure_becomes(&figure, 1.0).await;
        assert_eq!(edge.figure("meridian_edge_connections").await, 2.0);
        // Its place is free again once one has ended.
        drop(first);
        edge.figure_becomes("meridian_edge_connections", 1.0).await;
        until("a place is free", async || edge.connect().await.1 == "one").await;
        assert!(second.echoes().await);
    }
}

#[tokio::test]
async fn before_a_region_is_known_clients_are_closed() {
    let node = TestNode::start("one", None).await;
    let edge = TestEdge::start(config(&[("east", &[&node])], FRONT)).await;
    let (client, name) = edge.connect().await;
    assert_eq!(name, "");
    client.ends().await;
    assert_eq!(
        edge.figure("meridian_edge_refused_total{reason=\"no_node\"}").await,
        1.0
    );
    assert_eq!(edge.status().basis, "nothing_heard");
}

#[tokio::test]
async fn a_node_that_takes_no_connection_is_passed_over() {
    // Nobody listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let silent = TestNode::at(address, Some((true, 1))).await;
    let node = TestNode::start("one", Some((true, 1))).await;
    let edge = TestEdge::start(config(&[("east", &[&silent, &node])], FRONT)).await;
    edge.follows("east", 1, 2).await;
    for _ in 0..4 {
        assert_eq!(edge.connect().await.1, "one");
    }
    let figure = format!("meridian_edge_dials_failed_total{{region=\"east\",node=\"{address}\"}}");
    assert!(edge.figure(&figure).await >= 1.0);
    // Alone it can't serve anybody.
    node.fall_silent();
    edge.follows("east", 1, 1).await;
    assert_eq!(edge.connect().await.1, "");
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_is_closed() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let more = format!("{FRONT}[connections]\nidle_timeout_seconds = 1\n");
    let edge = TestEdge::start(config(&[("east", &[&node])], &more)).await;
    edge.follows("east", 1, 1).await;
    edge.connect().await.0.ends().await;
    edge.figure_becomes("meridian_edge_ended_total{reason=\"idle\"}", 1.0)
        .await;
}

#[tokio::test]
async fn told_to_stop_it_takes_nobody_and_lets_the_others_end() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let edge = TestEdge::start(config(&[("east", &[&node])], FRONT)).await;
    edge.follows("east", 1, 1).await;
    let (mut client, _) = edge.connect().await;
    edge.stop.send_replace(true);
    until("nobody is taken", async || {
        TcpStream::connect(edge.front).await.is_err()
    })
    .await;
    assert!(edge.ask("/health/ready").await.1.contains("told to stop"));
    assert!(client.echoes().await);
    drop(client);
    edge.serving.await.unwrap();
}

#[tokio::test]
async fn who_does_not_end_in_time_is_closed() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let mut config = config(&[("east", &[&node])], FRONT);
    config.edge.drain_seconds = 0;
    let edge = TestEdge::start(config).await;
    edge.follows("east", 1, 1).await;
    let (client, _): (Client, _) = edge.connect().await;
    edge.stop.send_replace(true);
    client.ends().await;
    edge.serving.await.unwrap();
}
