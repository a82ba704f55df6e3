//! All moves that are possible in a state.

use super::super::Step;
use super::coverage::Coverage;
use super::judge::{Verdict, place, places};
use super::table::{Backend, DESTINATIONS, Kernel, Place, Quirk, Table, Vip, service_number};
use super::world::{Meddle, Mode, Move, OTHER_SCHEDULER, Setting, Stage, Strike, World};
use crate::ruleset::Change;

impl World {
    /// Collects all states that can follow.
    pub(super) fn successors(
        &self,
        setting: &Setting,
        coverage: &mut Coverage,
        found: &mut Vec<(Move, Self)>,
    ) -> Verdict<()> {
        self.meddled(setting, found);
        self.restarted(setting, coverage, found)?;
        match self.place {
            Stage::Over => Ok(()),
            Stage::Running => self.stepped(setting, coverage, found),
            Stage::Between | Stage::Interrupted => {
                self.passed(setting, found);
                Ok(())
            }
        }
    }

    /// Collects the states after the next step, undisturbed and with each fault.
    fn stepped(
        &self,
        setting: &Setting,
        coverage: &mut Coverage,
        found: &mut Vec<(Move, Self)>,
    ) -> Verdict {
        found.push((Move::Next, self.step(setting, None, coverage)?));
        let mut asked = self.reconciler.clone();
        let step = asked.next(self.now);
        let changes = asked.changes().count();
        let mut strikes = Vec::new();
        match step {
            Step::Write if self.budget.faults.min(self.budget.all) > 0 => {
                strikes.extend([Strike::NotSent, Strike::Reloaded, Strike::Stopped]);
                for from in 0..changes {
                    strikes.extend([true, false].map(|is_made| Strike::Lost { from, is_made }));
                    strikes.push(Strike::NoMemory(from));
                }
                for change in asked.changes() {
                    let service = service_number(&change.service());
                    strikes.extend(match (change, place(change)) {
                        (Change::AddService(_) | Change::UpdateService { .. }, _) => {
                            Some(Strike::Quirk(Quirk::NoScheduler(service)))
                        }
                        (Change::AddDestination(..), Some(place)) => {
                            Some(Strike::Quirk(Quirk::NoRoute(place)))
                        }
                        _ => None,
                    });
                }
            }
            Step::ReadAll | Step::Read(_) if self.budget.faults.min(self.budget.all) > 0 => {
                strikes.push(Strike::Unreadable);
                let is_there = |place: &Place| self.kernel.table.backend(*place).is_some();
                strikes.extend(places().filter(is_there).map(Strike::Lacking));
            }
            _ => {}
        }
        for strike in strikes {
            let struck = self.step(setting, Some(strike), coverage);
            let mut world = struck.map_err(|fault| format!("{strike:?}: {fault}"))?;
            world.budget.faults -= 1;
            world.budget.all -= 1;
            found.push((Move::Strike(strike), world));
        }
        Ok(())
    }

    fn passed(&self, setting: &Setting, found: &mut Vec<(Move, Self)>) {
        if self.place == Stage::Interrupted || self.reconciler.next_count().is_some() {
            found.push((Move::Pass, self.pass(Move::Pass)));
        }
        let has_failed =
            self.place == Stage::Interrupted || self.reconciler.failed().next().is_some();
        if has_failed && self.budget.retries > 0 {
            let mut world = self.pass(Move::RetryingPass);
            world.budget.retries -= 1;
            found.push((Move::RetryingPass, world));
        }
        if self.reconciler.excess().is_some() && self.budget.retries > 0 {
            let mut world = self.pass(Move::ConfirmedPass);
            world.budget.retries -= 1;
            found.push((Move::ConfirmedPass, world));
        }
        if self.budget.rereads > 0 {
            let mut world = self.pass(Move::ReadingPass);
            world.budget.rereads -= 1;
            found.push((Move::ReadingPass, world));
        }
        if self.budget.moves.min(self.budget.all) > 0 {
            for wish in setting.wishes.iter().filter(|wish| **wish != self.wanted) {
                let mut world = self.clone();
                world.wanted = *wish;
                world.reconciler.want_all(wish.rules());
                world.judge.is_told = true;
                let mut world = world.pass(Move::Want(*wish));
                world.budget.moves -= 1;
                world.budget.all -= 1;
                found.push((Move::Want(*wish), world));
            }
        }
    }

    fn restarted(
        &self,
        setting: &Setting,
        coverage: &mut Coverage,
        found: &mut Vec<(Move, Self)>,
    ) -> Verdict {
        if self.budget.restarts.min(self.budget.all) == 0 || self.place == Stage::Over {
            return Ok(());
        }
        let keeps = if setting.drains() && setting.mode != Mode::Apply {
            &[true, false][..]
        } else {
            &[false]
        };
        let mut asked = self.reconciler.clone();
        let is_write = self.place == Stage::Running && matches!(asked.next(self.now), Step::Write);
        let most = if is_write { asked.changes().count() } else { 0 };
        for keeps_drains in keeps {
            for written in 0..=most {
                let mut world = self.clone();
                world.restart(*keeps_drains, written, setting, coverage)?;
                world.budget.restarts -= 1;
                world.budget.all -= 1;
                found.push((Move::Restart { keeps_drains: *keeps_drains, written }, world));
            }
        }
        Ok(())
    }

    fn meddled(&self, setting: &Setting, found: &mut Vec<(Move, Self)>) {
        if self.budget.moves.min(self.budget.all) == 0 || self.place == Stage::Over {
            return;
        }
        let mut meddle = |meddle| {
            let mut world = self.clone();
            world.kernel.meddle(meddle);
            world.budget.moves -= 1;
            world.budget.all -= 1;
            found.push((Move::Meddle(meddle), world));
        };
        for service in 0..setting.services {
            match self.kernel.table.0[service] {
                Some(_) => meddle(Meddle::RemoveService(service)),
                None => meddle(Meddle::AddService(service)),
            }
        }
        for place in setting.places() {
            if self.kernel.table.0[place.0].is_none() {
                continue;
            }
            let backend = self.kernel.table.backend(place);
            let any = (0..=setting.heaviest).map(|weight| Backend { weight, is_other: false });
            let other = Backend { weight: 1, is_other: true };
            for new in any.chain([other]).filter(|new| backend != Some(*new)) {
                meddle(Meddle::Set(place, new));
            }
            if backend.is_some() {
                meddle(Meddle::Remove(place));
            }
            if !setting.drains() {
                continue;
            }
            match (backend, self.kernel.connections[place.0][place.1]) {
                (Some(Backend { weight: 1.., .. }), 0) => meddle(Meddle::Opens(place)),
                (Some(_), 1..) => meddle(Meddle::Ends(place)),
                _ => {}
            }
        }
    }
}

impl Kernel {
    pub(super) fn meddle(&mut self, meddle: Meddle) {
        let Table(services) = &mut self.table;
        match meddle {
            Meddle::AddService(service) => {
                let backends = [None; DESTINATIONS];
                services[service] = Some(Vip { scheduler: OTHER_SCHEDULER, backends });
            }
            Meddle::RemoveService(service) => services[service] = None,
            Meddle::Set((service, number), backend) => {
                if let Some(vip) = &mut services[service] {
                    vip.backends[number] = Some(backend);
                }
            }
            Meddle::Remove((service, number)) => {
                if let Some(vip) = &mut services[service] {
                    vip.backends[number] = None;
                }
            }
            Meddle::Opens((service, number)) => self.connections[service][number] = 1,
            Meddle::Ends((service, number)) => self.connections[service][number] = 0,
        }
    }
}
