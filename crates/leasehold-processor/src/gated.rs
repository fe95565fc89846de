//! A source whose messages wait at a gate, and for a circuit.

use async_trait::async_trait;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::clock::Instant;
use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::dispatch::{Event, Settlement, Source};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;

use crate::circuit::{self, SharedCircuit};
use crate::gate::Gate;

pub(crate) struct Gated {
    source: Box<dyn Source>,
    gate: Gate,
    circuit: Option<SharedCircuit>,
    lease: Lease,
}

impl Gated {
    pub(crate) fn new(
        source: Box<dyn Source>,
        gate: Gate,
        circuit: Option<SharedCircuit>,
        lease: Lease,
    ) -> Self {
        Self { source, gate, circuit, lease }
    }
}

#[async_trait]
impl Source for Gated {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        // What waits for the gate is not in flight: a suspect's attempt is not recorded before it can be made.
        let held = self.held_until(BootClock.now()).is_some();
        self.source.fetch(if held { 0 } else { room }, events).await
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        self.source.settle(settlement).await
    }

    fn held_until(&mut self, now: Instant) -> Option<Instant> {
        let held = self.circuit.as_ref().and_then(|circuit| circuit::lock(circuit).held_until(now));
        let gate = self.gate.held_until(now, || self.lease.schedule_clock().now().timestamp_millis());
        held.max(gate).max(self.source.held_until(now))
    }

    fn handing_over(&mut self, position: u64, message: &Message) -> Option<String> {
        let refused = self.source.handing_over(position, message);
        if refused.is_none() {
            if let Some(circuit) = &self.circuit {
                circuit::lock(circuit).pass();
            }
            self.gate.pass(BootClock.now());
        }
        refused
    }

    fn together(&self) -> usize {
        self.source.together()
    }

    fn postponed(&mut self, position: u64, attempts: u32, due: Instant, reason: &str) {
        self.source.postponed(position, attempts, due, reason);
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        self.source.stop().await
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        self.source.close().await
    }
}
