//! `meridian replay lobster`: a real order-by-order record through the public API, compared with what the record shows.

mod aggregation;
mod queues;
mod record;
