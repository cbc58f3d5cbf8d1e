//! `transform:`, the steps applied to each record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One transform step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// CPU percentages (`pidle`, `pnice`, `puser`, `psys`, `pirq`) into the indicators record.
    CpuIndicators,
}
