//! What must hold at every instant, and what must hold at the end.

use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::Token;
use leasehold_core::protocol::request::Desired;

use crate::driver::{Driver, job, name};
use crate::world::{World, Wrong};

/// More legs than the busiest step of any scenario has, by far.
const MOST_LEGS: u16 = 200;

impl Driver<'_> {
    fn wrong(&mut self, wrong: Wrong) {
        self.tell(|| format!("VIOLATED: {}: {wrong:?}", wrong.name()));
        self.world.wrong.get_or_insert(wrong);
    }

    /// The nodes whose lease is valid, each by its own clock. A paused node counts: it may wake up in any instruction.
    fn valid(&self) -> Vec<usize> {
        let job = job();
        let nodes = self.world.nodes.iter().enumerate();
        let valid = nodes.filter(|(index, node)| {
            let now = self.world.clock(&self.setting.scenario, *index);
            node.as_ref().is_some_and(|node| node.valid(&job, now))
        });
        valid.map(|(index, _)| index).collect()
    }

    pub fn check_valid(&mut self) {
        if self.world.nodes.iter().flatten().filter(|node| !node.runs.is_empty()).count() < 2 {
            return;
        }
        let valid = self.valid();
        if valid.len() > 1 {
            self.wrong(Wrong::TwoHolders(valid));
        }
    }

    /// A run began.
    pub fn began(&mut self, index: usize, artifact: &ArtifactName, token: Token) {
        self.tell(|| format!("{} RUNS {artifact} with token {token}", name(index)));
        let before = self.world.started.insert(artifact.clone(), (token, index));
        if let Some((before, _)) = before.filter(|(before, _)| *before >= token) {
            self.wrong(Wrong::TokenReused { token, before });
        }
    }

    pub fn check_bound(&mut self) {
        let Some(bound) = self.setting.scenario.bound else { return };
        let Some((_, last)) = self.world.started.get(&job()).copied() else { return };
        if self.world.step > self.world.renewed[last] + bound && self.valid().is_empty() {
            let steps = self.world.step - self.world.renewed[last];
            self.wrong(Wrong::Late { steps });
        }
    }

    /// Whether nothing is left to happen: all is as it should be, and was so for a while.
    pub fn calm(&mut self) -> bool {
        let world = &*self.world;
        let sessions = world.awake().map(|(_, node)| node.machine.session().map(|session| session.id()));
        let Some(mut sessions) = sessions.collect::<Option<Vec<_>>>() else { return false };
        sessions.sort_unstable();
        let rows: Vec<_> = world.database.nodes().map(|row| row.session).collect();
        let adopted =
            world.database.cluster().is_some_and(|cluster| cluster.adopted == world.database.live());
        let calm = adopted && rows == sessions && world.flying.is_empty() && self.served();
        self.world.calm = if calm { self.world.calm + 1 } else { 0 };
        self.world.calm > 3
    }

    /// The artifact has its holder, if there is anybody to hold it.
    fn served(&self) -> bool {
        let valid = self.valid();
        let able =
            self.world.awake().filter(|(_, node)| !node.drains).map(|(index, _)| index).collect::<Vec<_>>();
        let active = self.world.database.desired(&job()) == Some(Desired::Active);
        if able.is_empty() || !active { true } else { valid.len() == 1 && able.contains(&valid[0]) }
    }

    pub fn check_storm(&mut self) {
        if self.world.landed > MOST_LEGS {
            self.wrong(Wrong::Storm);
        }
    }

    pub fn check_end(&mut self) {
        if self.world.wrong.is_none() && !self.served() {
            self.wrong(Wrong::NobodyRuns);
        }
    }
}

impl World {
    /// Whether the adversary can still do something.
    pub fn disturbed(&self, driver: &crate::scenario::Scenario) -> bool {
        let all = (1_u32 << driver.moves.len()) - 1;
        self.step < driver.rests() && (self.holds < driver.holds || self.made != all || !self.held.is_empty())
    }
}
