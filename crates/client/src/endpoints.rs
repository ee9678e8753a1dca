//! Where an exchange listens: the nodes of one group, any of which takes any request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::ClientError;
use crate::rest::Endpoint;

/// The nodes of one exchange, at least one, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// Takes one URL or several with commas between them.
    pub fn parse(urls: &str) -> Result<Self, ClientError> {
        let urls = urls.split(',').map(str::trim);
        let endpoints: Result<Vec<Endpoint>, ClientError> = urls.map(Endpoint::parse).collect();
        let endpoints = endpoints?;
        let is_plain = |endpoint: &Endpoint| endpoint.url("").starts_with("http:");
        if endpoints.iter().any(is_plain) && !endpoints.iter().all(is_plain) {
            let why = "either all URLs of an exchange start with https:// or none does";
            return Err(ClientError::Usage(why.to_owned()));
        }
        Ok(Self(endpoints))
    }

    /// The same, each trusting the authorities of a PEM file alone; see [`Endpoint::trusting`].
    pub fn trusting(self, authorities: &[u8]) -> Result<Self, ClientError> {
        let trusting = self.0.into_iter().map(|endpoint| endpoint.trusting(authorities));
        Ok(Self(trusting.collect::<Result<_, _>>()?))
    }

    /// The same, beginning with another one: clients that begin with different nodes share the work among them.
    #[must_use]
    pub fn beginning_with(mut self, index: usize) -> Self {
        let count = self.0.len();
        self.0.rotate_left(index % count);
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter()
    }

    /// One of them, counted from 0 and around.
    pub(crate) fn get(&self, index: usize) -> &Endpoint {
        &self.0[index % self.0.len()]
    }

    /// True if there is another one to go to.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }
}

impl From<Endpoint> for Endpoints {
    fn from(endpoint: Endpoint) -> Self {
        Self(vec![endpoint])
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.0.iter().map(|endpoint| endpoint.url("")).collect();
        f.write_str(&urls.join(","))
    }
}

/// The one of them that is used now. Clones share it: what one of them learnt is not learnt again.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    endpoints: Endpoints,
    index: Arc<AtomicUsize>,
}

impl Chosen {
    /// The first of them.
    pub fn first_of(endpoints: Endpoints) -> Self {
        let index = Arc::default();
        Self { endpoints, index }
    }

    /// All of them.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The one that is used now, and its index.
    pub fn get(&self) -> (usize, &Endpoint) {
        let index = self.index.load(Ordering::Relaxed);
        (index, self.endpoints.get(index))
    }

    /// Goes on to the one behind `from`, unless another request has done so already.
    pub fn leave(&self, from: usize) {
        let next = (from + 1) % self.endpoints.0.len();
        let left = self
            .index
            .compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
        // An error says that somebody else left it first.
        let _ = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_urls_is_the_nodes_of_one_exchange() {
        let endpoints = Endpoints::parse("http://a:1, http://b:2").unwrap();
        assert_eq!(endpoints.to_string(), "http://a:1,http://b:2");
        assert_eq!(endpoints.beginning_with(3).to_string(), "http://b:2,http://a:1");
        for wrong in ["", "http://a:1,", "http://a:1 http://b:2", "http://a:1,https://b:2"] {
            assert!(matches!(Endpoints::parse(wrong), Err(ClientError::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_node_is_left_once_however_many_leave_it() {
        let chosen = Chosen::first_of(Endpoints::parse("http://a:1,http://b:2,http://c:3").unwrap());
        let (first, _) = chosen.get();
        chosen.leave(first);
        chosen.clone().leave(first);
        assert_eq!(chosen.get().1.address(), "b:2");
        chosen.leave(1);
        chosen.leave(2);
        assert_eq!(chosen.get().0, 0);
    }
}
