//! What `meridian journal` does.
