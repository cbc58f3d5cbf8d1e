//! Made-up CPU statistics after a delay. The same seed gives every target the same
//! delay, numbers and luck; a call in flight costs a timer and no thread.

use std::time::Duration;

use super::answer::push_merged;
use super::error::{ExtractError, ExtractorError};
use super::target::Target;
use super::unix_seconds;
use crate::batch::Rows;
use crate::config::Simulated;

/// See the module.
#[derive(Debug)]
pub(super) struct SimulatedCpu {
    shortest: Duration,
    longest: Duration,
    fail: f64,
    seed: u64,
}

impl SimulatedCpu {
    pub(super) fn new(config: &Simulated) -> Result<Self, ExtractorError> {
        let (min, max) = (config.delay, config.delay_max.unwrap_or(config.delay));
        if max < min {
            return Err(ExtractorError::Delays { min, max });
        }
        Ok(SimulatedCpu { shortest: min.0, longest: max.0, fail: config.fail.0, seed: config.seed })
    }

    pub(super) async fn rows(&self, target: &Target) -> Result<Rows, ExtractError> {
        // An odd factor spreads neighbouring indexes over the generator's states.
        let spread = target.index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = fastrand::Rng::with_seed(self.seed ^ spread);
        let delay = self.shortest + (self.longest - self.shortest).mul_f64(random.f64());
        let fails = random.f64() < self.fail;
        tokio::time::sleep(delay).await;
        if fails {
            return Err(ExtractError::Simulated);
        }
        let answer = made_up(&mut random, unix_seconds());
        let mut rows = Rows::few();
        push_merged(&target.fields()?, answer.as_bytes(), 0, &mut rows)?;
        Ok(rows)
    }
}

/// Percentages with two decimals that add up to 100.00.
fn made_up(random: &mut fastrand::Rng, timestamp: u64) -> String {
    let mut left = 10_000u32;
    let mut take = |most: u32| {
        let share = random.u32(0..=most.min(left));
        left -= share;
        share
    };
    let [user, system, nice, irq] = [take(6000), take(2500), take(300), take(200)];
    let text = |hundredths: u32| format!("\"{}.{:02}\"", hundredths / 100, hundredths % 100);
    format!(
        r#"{{"cpu_number":"0","pidle":{},"pnice":{},"puser":{},"psys":{},"pirq":{},"timestamp":{timestamp}}}"#,
        text(left),
        text(nice),
        text(user),
        text(system),
        text(irq),
    )
}
