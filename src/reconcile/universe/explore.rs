//! Exploring a universe: breadth first, each state once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use super::super::Step;
use super::coverage::Coverage;
use super::judge::Verdict;
use super::table::Table;
use super::world::{Budget, Mode, Move, Setting, World};
use crate::ruleset::{Allowed, Change};

/// The most steps that a reconciler may need once nobody interferes any more.
pub(super) const STEPS: usize = 60;
/// How many kinds of faults are reported.
const FAULTS: usize = 8;

/// The exploration of a universe.
pub(super) struct Explorer<'a> {
    setting: &'a Setting,
    visited: HashSet<u64, BuildHasherDefault<Same>>,
    /// For each state, whatever its budget, the table that it leads to if nobody interferes any
    /// more.
    ends: HashMap<u64, Table, BuildHasherDefault<Same>>,
    pub(super) coverage: Coverage,
    /// The kinds of faults, each with the shortest way to one.
    pub(super) faults: BTreeMap<String, String>,
}

/// A state that is to be visited, and the path to it.
struct Node {
    world: World,
    start: usize,
    path: Option<Rc<Path>>,
}

struct Path {
    last: Move,
    before: Option<Rc<Path>>,
}

impl<'a> Explorer<'a> {
    pub(super) fn new(setting: &'a Setting) -> Self {
        let coverage = Coverage::default();
        let faults = BTreeMap::new();
        Self { setting, visited: HashSet::default(), ends: HashMap::default(), coverage, faults }
    }

    /// How many states were visited.
    pub(super) fn states(&self) -> usize {
        self.visited.len()
    }

    /// Visits all states that can be reached.
    pub(super) fn explore(&mut self, starts: &[World]) {
        let starts_ = starts.iter().cloned().enumerate();
        let mut frontier: Vec<_> =
            starts_.map(|(start, world)| Node { world, start, path: None }).collect();
        let mut found = Vec::new();
        while !frontier.is_empty() {
            let mut next = Vec::new();
            for Node { world, start, path } in frontier {
                if let Err(fault) = self.visit(&world, &mut found) {
                    self.note(&fault, &starts[start], path.clone());
                    if super::is_enough(&self.faults) {
                        return;
                    }
                }
                for (last, world) in found.drain(..) {
                    if self.visited.insert(fingerprint(&world)) {
                        let path = Some(Rc::new(Path { last, before: path.clone() }));
                        next.push(Node { world, start, path });
                    }
                }
            }
            frontier = next;
        }
    }

    /// Records the first fault of each kind.
    fn note(&mut self, fault: &str, start: &World, path: Option<Rc<Path>>) {
        let kind: String = fault.chars().filter(|c| !c.is_ascii_digit()).collect();
        if self.faults.len() < FAULTS && !self.faults.contains_key(&kind) {
            let moves = std::iter::successors(path, |path| path.before.clone());
            let mut moves: Vec<Move> = moves.map(|path| path.last).collect();
            moves.reverse();
            let story = format!("{fault}\n{}", story(self.setting, start, &moves));
            self.faults.insert(kind, story);
        }
    }

    fn visit(&mut self, world: &World, found: &mut Vec<(Move, World)>) -> Verdict {
        world.successors(self.setting, &mut self.coverage, found)?;
        for (last, next) in found.iter() {
            match last {
                // These moves belong to the undisturbed course, which ends as its first state does.
                Move::Next | Move::Pass => {}
                Move::Restart { keeps_drains, written } => {
                    self.compare(world, next, (*keeps_drains, *written))
                        .map_err(|fault| format!("{last:?}: {fault}"))?;
                }
                _ => drop(self.end(next).map_err(|fault| format!("{last:?}: {fault}"))?),
            }
        }
        Ok(())
    }

    /// The table that a state leads to if nobody interferes any more.
    fn end(&mut self, world: &World) -> Verdict<Table> {
        let mut passed = Vec::new();
        let mut world = World { budget: Budget::default(), ..world.clone() };
        let end = loop {
            let fingerprint = fingerprint(&world);
            if let Some(end) = self.ends.get(&fingerprint) {
                break *end;
            }
            passed.push(fingerprint);
            match world.next(self.setting, &mut self.coverage)? {
                _ if passed.len() > STEPS => {
                    return Err("the reconciler does not come to an end".into());
                }
                Some(next) => world = next,
                None => break world.kernel.table,
            }
        };
        self.ends.extend(passed.into_iter().map(|passed| (passed, end)));
        Ok(end)
    }

    /// Checks that a restart ends with the same table as without the restart, except where the
    /// documentation says otherwise.
    fn compare(&mut self, world: &World, restarted: &World, how: (bool, usize)) -> Verdict {
        let end = self.end(restarted)?;
        let (keeps_drains, written) = how;
        let goes_on = match self.setting.mode {
            Mode::Apply => world.clone(),
            Mode::Passes | Mode::Untold => world.reread(),
        };
        // A restart reads changes of others that the old controller has not seen; and its last
        // writes may have replaced such changes.
        let is_blind = self.setting.mode == Mode::Apply || written > 0;
        let is_drift = is_blind && world.judge.known != world.kernel.table;
        // Without permission to add destinations, they follow a new service at once or not at all.
        let allowed = self.setting.policy.allowed;
        let has_begun = written > 0 || world.judge.owed.concat().contains(&true);
        let is_half_added = has_begun && !allowed.contains(Allowed::ADD_DESTINATIONS);
        // Without `Drains`, a new controller does not know which weights of 0 it is to take back.
        let is_unknown = !keeps_drains && !allowed.is_all() && world.judge.has_lowered();
        // A controller that has just begun may take away another share.
        let is_guarded = self.setting.policy.at_most.is_some();
        if is_drift || is_half_added || is_unknown || is_guarded {
            return Ok(());
        }
        let otherwise = self.end(&goes_on)?;
        if end == otherwise {
            return Ok(());
        }
        Err(format!("ends in\n{}and without the restart in\n{}", end.rules(), otherwise.rules()))
    }
}

/// The path to a state, step by step.
pub(super) fn story(setting: &Setting, start: &World, moves: &[Move]) -> String {
    let mut story = format!("{:?} {:?}\n", setting.mode, setting.policy);
    let mut world = start.clone();
    let mut ignored = Coverage::default();
    for last in moves.iter().map(Some).chain([None]) {
        let (rules, connections) = (world.kernel.table.rules(), world.kernel.connections);
        let mut asked = world.reconciler.clone();
        let step = asked.next(world.now);
        let _ = writeln!(
            story,
            "table, {connections:?}:\n{rules}at {:?}: {:?}",
            world.now, world.place
        );
        let _ = writeln!(story, "wanted:\n{}would {step:?}", world.wanted.rules());
        if step == Step::Write {
            let changes: Vec<String> = asked.changes().map(Change::to_string).collect();
            let _ = writeln!(story, "  {}", changes.join("\n  "));
        }
        let Some(last) = last else { break };
        let _ = writeln!(story, "-- {last:?}");
        let mut found = Vec::new();
        let _ = world.successors(setting, &mut ignored, &mut found);
        let wanted = format!("{last:?}");
        let next = found.into_iter().find(|(other, _)| format!("{other:?}") == wanted);
        world = next.map_or(world, |(_, world)| world);
    }
    story
}

/// A fingerprint of 64 bits. The chance that two of ten million states share one is 3 in a million
/// (n²/2⁶⁵), and then the second of them is merely not explored.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = Folded::default();
    world.hash(&mut hasher);
    hasher.finish()
}

/// A fast hasher that mixes well: each word is multiplied to 128 bits, which are folded. Random
/// keys are of no use here, since nobody chooses the states.
#[derive(Default)]
struct Folded(u64);

impl Folded {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

    fn fold(word: u64, by: u64) -> u64 {
        let product = (u128::from(word) * u128::from(by)).to_ne_bytes();
        let (low, high) = product.split_at(8);
        let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
        word(low) ^ word(high)
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = Self::fold(self.0.rotate_left(5) ^ word ^ Self::ODD, Self::ODD).wrapping_add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        Self::fold(self.0, Self::ODD)
    }
}

/// Takes a fingerprint as it is.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
