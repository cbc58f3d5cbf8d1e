//! Hosts and subnets that bear only so many polls at once. What cannot go now is parked
//! with the one that is full, and comes back when a poll of it ends. Pure.

use std::collections::{HashMap, VecDeque};

/// No group: a name has no subnet.
pub const NO_GROUP: u32 = u32::MAX;

/// What a target belongs to: numbers that [`Groups::number`] has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Its host.
    pub host: u32,
    /// Its subnet.
    pub subnet: u32,
}

impl Membership {
    /// Of nothing.
    pub const NONE: Membership = Membership { host: NO_GROUP, subnet: NO_GROUP };
}

/// Polls in flight by host and subnet.
#[derive(Debug, Default)]
pub struct Groups {
    per_host: Option<usize>,
    per_subnet: Option<usize>,
    /// Numbers stay as they are as long as this lives, so that polls in flight keep theirs
    /// when the inventory changes.
    numbers: HashMap<(bool, u64), u32>,
    flying: Vec<u32>,
    parked: HashMap<u32, VecDeque<u32>>,
}

impl Groups {
    /// Groups with these limits; without any, nothing is ever parked.
    #[must_use]
    pub fn new(per_host: Option<usize>, per_subnet: Option<usize>) -> Groups {
        Groups { per_host, per_subnet, ..Groups::default() }
    }

    /// Whether there is any limit.
    #[must_use]
    pub fn limited(&self) -> bool {
        self.per_host.is_some() || self.per_subnet.is_some()
    }

    /// The membership of a target by hashes of its host and its subnet.
    pub fn number(&mut self, host: Option<u64>, subnet: Option<u64>) -> Membership {
        Membership {
            host: self.number_of(self.per_host.is_some(), false, host),
            subnet: self.number_of(self.per_subnet.is_some(), true, subnet),
        }
    }

    fn number_of(&mut self, limited: bool, subnet: bool, hash: Option<u64>) -> u32 {
        let Some(hash) = hash.filter(|_| limited) else { return NO_GROUP };
        let next = u32::try_from(self.flying.len()).unwrap_or(NO_GROUP);
        let number = *self.numbers.entry((subnet, hash)).or_insert(next);
        if number == next {
            self.flying.push(0);
        }
        number
    }

    /// Lets a poll of `member` fly; or parks `target`, when its host or subnet is full.
    #[must_use]
    pub fn admit(&mut self, target: u32, member: Membership) -> bool {
        for (group, limit) in [(member.host, self.per_host), (member.subnet, self.per_subnet)] {
            if let (Some(flying), Some(limit)) = (self.flying.get(group as usize), limit)
                && *flying as usize >= limit
            {
                self.parked.entry(group).or_default().push_back(target);
                return false;
            }
        }
        for group in [member.host, member.subnet] {
            if let Some(flying) = self.flying.get_mut(group as usize) {
                *flying += 1;
            }
        }
        true
    }

    /// A poll of `member` has ended: gives the targets that may be tried again.
    pub fn release(&mut self, member: Membership) -> [Option<u32>; 2] {
        [member.host, member.subnet].map(|group| {
            let flying = self.flying.get_mut(group as usize)?;
            *flying = flying.saturating_sub(1);
            let queue = self.parked.get_mut(&group)?;
            let next = queue.pop_front();
            if queue.is_empty() {
                self.parked.remove(&group);
            }
            next
        })
    }

    /// Every target that is parked, which none is afterwards.
    pub fn take_parked(&mut self) -> Vec<u32> {
        self.parked.drain().flat_map(|(_, queue)| queue).collect()
    }
}
