//! API keys: who may ask for what. The gateway verified the signature; whether the key still holds is decided here.

use types::limits::SEALED_SECRET_BYTES_MAX;
use types::{AccountId, Key, KeyId, KeyMaterial, RejectReason, Scopes};

use crate::hash::{Kind, Mixer, Sum};
use crate::prefetch::prefetch;

/// All keys ever made; a revoked one is kept, so that its id is never reused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    /// The key of id `n` is at `n - 1`; 0 is the system.
    keys: Vec<Key>,
    /// What every command is checked against, apart from the material, so that it stays in the cache.
    rights: Vec<Rights>,
    admins_active: u32,
    sum: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Rights {
    account: AccountId,
    scopes: Scopes,
    active: bool,
}

impl Keys {
    /// Whether the key may ask for something of this scope for this account.
    #[inline]
    pub(crate) fn check(&self, key: KeyId, account: AccountId, scope: Scopes) -> Result<(), RejectReason> {
        let rights = place(key).and_then(|place| self.rights.get(place));
        let rights = rights.ok_or(RejectReason::KeyUnknown)?;
        if !rights.active {
            return Err(RejectReason::KeyRevoked);
        }
        if !rights.scopes.contains(scope) || rights.account != account {
            return Err(RejectReason::KeyScopeMissing);
        }
        Ok(())
    }

    /// Asks for the memory of a key's rights.
    #[inline]
    pub(crate) fn prefetch(&self, key: KeyId) {
        prefetch(&self.rights, place(key).unwrap_or(0));
    }

    /// True if an operator's key is there and not revoked.
    pub(crate) fn has_admin(&self) -> bool {
        self.admins_active > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn get(&self, key: KeyId) -> Option<&Key> {
        self.keys.get(place(key)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Adds a key whose id is the next one.
    pub(crate) fn add(&mut self, key: Key) {
        assert_eq!(place(key.id), Some(self.keys.len()), "ids are dense");
        self.rights.push(Rights {
            account: key.account,
            scopes: key.scopes,
            active: key.active,
        });
        self.admins_active += u32::from(key.active && key.scopes.contains(Scopes::ADMIN));
        self.sum.add(item(&key));
        self.keys.push(key);
    }

    /// Revokes a key that is active.
    pub(crate) fn revoke(&mut self, key: KeyId) -> &Key {
        let place = place(key).expect("the key is there");
        let key = &mut self.keys[place];
        assert!(key.active, "only an active key is revoked");
        self.sum.remove(item(key));
        key.active = false;
        self.rights[place].active = false;
        self.admins_active -= u32::from(key.scopes.contains(Scopes::ADMIN));
        self.sum.add(item(key));
        key
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sum.0
    }

    pub(crate) fn recompute_hash(&self) -> u64 {
        self.keys.iter().map(item).collect::<Sum>().0
    }
}

/// True if the material is well formed and the scopes are ones that the account may have: the operator's keys have
/// `ADMIN`, and only they do.
pub(crate) fn is_valid(account: AccountId, scopes: Scopes, material: &KeyMaterial) -> bool {
    let material_valid = match material {
        KeyMaterial::Ed25519(_) => true,
        KeyMaterial::HmacSha256 { sealed } => !sealed.is_empty() && sealed.len() <= SEALED_SECRET_BYTES_MAX,
    };
    let known = Scopes::READ.with(Scopes::TRADE).with(Scopes::ADMIN);
    let scopes_valid = scopes != Scopes::default()
        && known.contains(scopes)
        && if account == AccountId::OPERATOR {
            scopes.contains(Scopes::ADMIN) && !scopes.contains(Scopes::TRADE)
        } else {
            !scopes.contains(Scopes::ADMIN)
        };
    material_valid && scopes_valid && account != AccountId::FEES
}

fn place(key: KeyId) -> Option<usize> {
    (key.0 as usize).checked_sub(1)
}

fn item(key: &Key) -> u64 {
    let mut mixer = Mixer::new(Kind::Key);
    let rights = u64::from(key.scopes.0) << 1 | u64::from(key.active);
    mixer
        .word(u64::from(key.id.0))
        .word(u64::from(key.account.0))
        .word(rights);
    match &key.material {
        KeyMaterial::Ed25519(public) => mixer.word(0).bytes(public),
        KeyMaterial::HmacSha256 { sealed } => mixer.word(1).bytes(sealed),
    };
    mixer.finish()
}
