//! The places of a listener's connections: in all, of one address, and of one address before it has finished its
//! handshake. Who sits in them is not known here.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Limits, Refusal};

/// What counts as one address in limits: an IPv4 address, also where it is mapped into IPv6, and of IPv6 the /64, which
/// is the least that a subscriber is given (RFC 6177 section 2), to take addresses from as it likes.
pub fn subscriber_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        other => other,
    }
}

/// The places of one listener.
#[derive(Clone)]
pub(crate) struct Seats(Arc<Shared>);

struct Shared {
    all: usize,
    per_address: usize,
    shaking_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    of: HashMap<IpAddr, Count>,
}

/// The places of one address.
#[derive(Default)]
struct Count {
    open: usize,
    /// Those of them that have not finished their handshake.
    shaking: usize,
}

impl Seats {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            all: limits.max_connections,
            per_address: limits.max_connections_per_address.unwrap_or(usize::MAX),
            shaking_per_address: limits.max_handshakes_per_address,
            taken: Mutex::default(),
        }))
    }

    /// A place for a connection from `address`, which has a handshake before it where `shakes`.
    pub(crate) fn take(&self, address: IpAddr, shakes: bool) -> Result<Seat, Refusal> {
        let mut seat = self.take_unnamed()?;
        seat.name(address, shakes)?;
        Ok(seat)
    }

    /// A place for a connection of which it is not known yet, or will never be, whose it is.
    pub(crate) fn take_unnamed(&self) -> Result<Seat, Refusal> {
        let mut taken = self.0.taken();
        if taken.all >= self.0.all {
            return Err(Refusal::Full);
        }
        taken.all += 1;
        Ok(Seat { seats: self.clone(), address: None, is_shaking: false })
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Given back when it is dropped.
pub(crate) struct Seat {
    seats: Seats,
    /// Whose it is, once that is known.
    address: Option<IpAddr>,
    is_shaking: bool,
}

impl Seat {
    /// Counts the place as one of `address`; of a place that has a name already it is nothing to ask.
    pub(crate) fn name(&mut self, address: IpAddr, shakes: bool) -> Result<(), Refusal> {
        let address = subscriber_of(address);
        let shared = &self.seats.0;
        let mut taken = shared.taken();
        let count = taken.of.entry(address).or_default();
        // There is no empty count that this could leave behind: a limit of 0 is none that a listener has.
        if count.open >= shared.per_address || (shakes && count.shaking >= shared.shaking_per_address) {
            return Err(Refusal::AddressFull);
        }
        count.open += 1;
        count.shaking += usize::from(shakes);
        drop(taken);
        (self.address, self.is_shaking) = (Some(address), shakes);
        Ok(())
    }

    /// The handshake is over.
    pub(crate) fn has_shaken(&mut self) {
        if std::mem::take(&mut self.is_shaking)
            && let Some(address) = self.address
            && let Some(count) = self.seats.0.taken().of.get_mut(&address)
        {
            count.shaking -= 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.has_shaken();
        let mut taken = self.seats.0.taken();
        taken.all -= 1;
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut entry) = taken.of.entry(address) {
            entry.get_mut().open -= 1;
            if entry.get().open == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(all: usize, per_address: Option<usize>, shaking: usize) -> Seats {
        Seats::new(&Limits {
            max_connections: all,
            max_connections_per_address: per_address,
            max_handshakes_per_address: shaking,
            ..Limits::default()
        })
    }

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_leaves_the_rest_to_others() {
        let seats = seats(3, Some(2), 9);
        let first = seats.take(at("192.0.2.1"), false).ok().unwrap();
        let _second = seats.take(at("192.0.2.1"), false).ok().unwrap();
        assert_eq!(seats.take(at("::ffff:192.0.2.1"), false).err(), Some(Refusal::AddressFull));
        let _other = seats.take(at("192.0.2.2"), false).ok().unwrap();
        assert_eq!(seats.take(at("192.0.2.3"), false).err(), Some(Refusal::Full));
        drop(first);
        assert!(seats.take(at("192.0.2.1"), false).is_ok());
    }

    #[test]
    fn who_has_finished_the_handshake_makes_place_for_the_next() {
        let seats = seats(9, None, 1);
        let mut first = seats.take(at("192.0.2.1"), true).ok().unwrap();
        assert_eq!(seats.take(at("192.0.2.1"), true).err(), Some(Refusal::AddressFull));
        first.has_shaken();
        let second = seats.take(at("192.0.2.1"), true).ok().unwrap();
        assert_eq!(seats.take(at("192.0.2.1"), true).err(), Some(Refusal::AddressFull));
        drop((first, second));
        assert!(seats.0.taken().of.is_empty(), "an address that is gone is forgotten");
    }

    #[test]
    fn addresses_of_one_subscriber_count_as_one() {
        for (address, counted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::1"),
        ] {
            assert_eq!(subscriber_of(at(address)), at(counted), "{address}");
        }
    }
}
