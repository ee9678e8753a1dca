//! Which region and which nodes clients come to.

use crate::support::{FRONT, TestEdge, TestNode, config, until};

#[tokio::test]
async fn a_higher_epoch_takes_all_clients_and_a_stale_one_gets_none() {
    let east = TestNode::start("east", Some((true, 1))).await;
    let west = TestNode::start("west", Some((false, 1))).await;
    let edge = TestEdge::start(config(&[("east", &[&east]), ("west", &[&west])], FRONT)).await;
    edge.follows("east", 1, 1).await;
    assert_eq!(edge.ask("/health/ready").await.0, "HTTP/1.1 200 OK");
    let (mut client, name) = edge.connect().await;
    assert_eq!(name, "east");
    assert!(client.echoes().await);

    // The old region goes on saying that it is active.
    west.say(true, 2);
    client.ends().await;
    edge.follows("west", 2, 1).await;
    for _ in 0..8 {
        assert_eq!(edge.connect().await.1, "west");
    }
    edge.figure_becomes("meridian_edge_ended_total{reason=\"superseded\"}", 1.0)
        .await;
    assert_eq!(edge.figure("meridian_edge_switches_total").await, 1.0);
    assert_eq!(edge.figure("meridian_edge_region_active{region=\"east\"}").await, 0.0);

    // Nor does it get any when the new one is lost.
    west.fall_silent();
    edge.follows("west", 2, 0).await;
    let (client, name) = edge.connect().await;
    assert_eq!(name, "");
    client.ends().await;
    assert!(edge.ask("/health/ready").await.0.contains("503"));
    assert!(edge.ask("/health/live").await.0.contains("200"));
    let status: serde_json::Value = serde_json::from_str(&edge.ask("/status").await.1).unwrap();
    assert_eq!(
        (&status["active_region"], &status["basis"]),
        (&"west".into(), &"held".into())
    );
    assert_eq!(status["regions"][0]["nodes"][0]["active"], true);
    assert_eq!(status["regions"][0]["nodes"][0]["open"], false);
    assert_eq!(status["regions"][1]["nodes"][0]["up"], false);

    // It does when it is promoted again.
    east.say(true, 3);
    edge.follows("east", 3, 1).await;
    assert_eq!(edge.connect().await.1, "east");
}

#[tokio::test]
async fn a_lost_node_is_left_and_the_others_are_not() {
    let nodes = [
        TestNode::start("one", Some((true, 1))).await,
        TestNode::start("two", Some((true, 1))).await,
        TestNode::start("three", Some((true, 1))).await,
    ];
    let [one, two, three] = &nodes;
    let edge = TestEdge::start(config(&[("east", &[one, two, three])], FRONT)).await;
    edge.follows("east", 1, 3).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(edge.connect().await);
    }
    // The least busy one each time.
    let mut names: Vec<&str> = clients.iter().map(|(_, name)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "one", "three", "three", "two", "two"]);

    two.fall_silent();
    edge.follows("east", 1, 2).await;
    for (mut client, name) in clients {
        match &*name {
            "two" => client.ends().await,
            _ => assert!(client.echoes().await, "{name}"),
        }
    }
    edge.figure_becomes("meridian_edge_ended_total{reason=\"node_lost\"}", 2.0)
        .await;
    for _ in 0..4 {
        assert_ne!(edge.connect().await.1, "two");
    }
    two.say(true, 1);
    edge.follows("east", 1, 3).await;
}

#[tokio::test]
async fn an_election_closes_nothing() {
    let one = TestNode::start("one", Some((true, 1))).await;
    let two = TestNode::start("two", Some((true, 1))).await;
    let edge = TestEdge::start(config(&[("east", &[&one, &two])], FRONT)).await;
    edge.follows("east", 1, 2).await;
    let (mut client, name) = edge.connect().await;
    // One that can't take orders gets no new client, but keeps those that it has.
    let (node, other) = if name == "one" { (&one, &two) } else { (&two, &one) };
    node.say(false, 1);
    edge.follows("east", 1, 1).await;
    for _ in 0..4 {
        assert_ne!(edge.connect().await.1, name);
    }
    assert!(client.echoes().await);
    // When none can, clients go to them to be told so.
    other.say(false, 1);
    until("held", async || edge.status().basis == "held").await;
    edge.follows("east", 1, 2).await;
    assert!(client.echoes().await);
    assert_ne!(edge.connect().await.1, "");
}

#[tokio::test]
async fn two_edges_decide_the_same() {
    let east = [
        TestNode::start("east-1", Some((true, 1))).await,
        TestNode::start("east-2", Some((true, 1))).await,
    ];
    let west = [
        TestNode::start("west-1", Some((false, 1))).await,
        TestNode::start("west-2", Some((false, 1))).await,
    ];
    let (east_nodes, west_nodes) = ([&east[0], &east[1]], [&west[0], &west[1]]);
    // One has the regions in another order, and one starts only later.
    let first = TestEdge::start(config(&[("east", &east_nodes), ("west", &west_nodes)], FRONT)).await;
    first.follows("east", 1, 2).await;
    west[0].say(true, 2);
    first.follows("west", 2, 1).await;
    let second = TestEdge::start(config(&[("west", &west_nodes), ("east", &east_nodes)], FRONT)).await;
    let both = async |region: &str, epoch, nodes_count| {
        first.follows(region, epoch, nodes_count).await;
        second.follows(region, epoch, nodes_count).await;
    };
    both("west", 2, 1).await;
    west[1].say(true, 2);
    both("west", 2, 2).await;
    east[0].say(false, 2);
    east[1].say(true, 3);
    both("east", 3, 1).await;
    // What must never be: two regions at one epoch. Both take the one whose name is first, and say that something is wrong.
    west[0].say(true, 3);
    for edge in [&first, &second] {
        edge.figure_becomes("meridian_edge_epoch_conflict", 1.0).await;
    }
    both("east", 3, 1).await;
}
