//! What the gateway allocates for an order over WebSocket, once it has warmed up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::live::{Client, Live, order};

/// Counts what threads allocate that ask for it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if IS_COUNTED.get() {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on as it is to the system's allocator; what is counted touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Does something on a counted thread that isn't the gateway's.
pub fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let was_counted = IS_COUNTED.replace(false);
    let done = work();
    IS_COUNTED.set(was_counted);
    done
}

/// Places and cancels orders, several at a time.
async fn trade(client: &mut Client, name: &str, rounds: usize) {
    for round in 0..rounds {
        let mut last = 0;
        for index in 0..8 {
            let id = format!("{name}-{round}-{index}");
            client.send("place", order(&id, "buy", "90.00", "1")).await;
            let cancel = json!({"request_id": format!("c-{id}"), "client_order_id": id});
            last = client.send("cancel", cancel).await;
        }
        assert_eq!(client.reply(last).await["status"], 200);
        client.forget();
    }
}

#[test]
fn an_order_over_websocket_allocates_less_than_once_after_warm_up() {
    const ROUNDS: usize = 100;
    let gateway = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(|| IS_COUNTED.set(true))
        .enable_all()
        .build()
        .unwrap();
    let counted = gateway.block_on(async {
        let live = Live::start(90).await;
        let mut client = live.trader(2).await;
        trade(&mut client, "warm", ROUNDS).await;
        let before = COUNT.load(Ordering::Relaxed);
        trade(&mut client, "counted", ROUNDS).await;
        COUNT.load(Ordering::Relaxed) - before
    });
    // What is left are the blocks that texts are read into and written from: some for each wake-up of the session, and
    // none for a request among others.
    let requests = ROUNDS * 16;
    assert!(counted < requests as u64, "{counted} in {requests} requests");
}
