//! The client against servers that misbehave: they cut, stay silent, are busy, and answer twice.

mod rest;
mod websocket;
