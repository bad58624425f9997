//! Whether another attempt follows, when, and with what input.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_protocol::{RunNo, TaskId};
use serde::Deserialize;

use super::failure::FieldError;
use super::run::Run;
use super::sight::Sight;
use super::step::Step;
use crate::expression::ValueTemplate;
use crate::json::Json;
use crate::scope::{Ended, Scope};
use crate::workflow::{Backoff, Retry, Task};

/// Longest delay and time limit in seconds: ten years.
const MAX_SECONDS: f64 = 315_360_000.0;

/// What follows the end of an attempt.
pub(super) enum Attempts {
    /// Nothing: the run ends with it.
    Over,
    /// Another attempt.
    After {
        /// Seconds from now.
        delay_s: f64,
    },
}

impl Step<'_> {
    /// Looks at the retry rule after an attempt has ended.
    pub(super) fn next_attempt(
        &self,
        no: RunNo,
        ended: &Ended,
        retryable: bool,
    ) -> Result<Attempts, FieldError> {
        let Some(run) = self.execution.live.get(&no) else {
            return Ok(Attempts::Over);
        };
        let Some(retry) = &self.workflow.tasks[run.task.0].retry else {
            return Ok(Attempts::Over);
        };
        let wanted = ended.is_failure() && retryable;
        if run.attempt >= run.max_attempts || !(wanted || retry.when.is_some()) {
            return Ok(Attempts::Over);
        }
        if ended.is_failure() && !retryable {
            return Ok(Attempts::Over);
        }
        let sight = Sight::of_run(self.execution, run);
        let scope = sight.scope(&run.branch.vars, Some(ended));
        if let Some(when) = &retry.when
            && !when
                .holds(&scope)
                .map_err(|error| FieldError::new("retry.when", &error))?
        {
            return Ok(Attempts::Over);
        }
        let base = match &retry.delay {
            None => 0.0,
            Some(delay) => number(delay, &scope, "retry.delay", 0.0)?,
        };
        let delay_s = jittered_delay_s(retry, base, self.execution.task_id(no), run.attempt)
            .max(asked_delay_s(retry, ended));
        Ok(Attempts::After { delay_s })
    }

    /// Renders action, input and limits of a run for its next attempt.
    pub(super) fn render(&mut self, no: RunNo) -> Result<(), FieldError> {
        let workflow = Arc::clone(&self.workflow);
        let Some(run) = self.execution.live.get(&no) else {
            return Ok(());
        };
        let task = &workflow.tasks[run.task.0];
        let sight = Sight::of_run(self.execution, run).with_attempt(run.attempt + 1);
        let scope = sight.scope(&run.branch.vars, None);
        let allowed = (run.attempt > 0).then_some(run.max_attempts);
        let rendered = Rendered::new(task, &scope, allowed)?;
        if let Some(run) = self.execution.live.get_mut(&no) {
            rendered.apply(run);
        }
        Ok(())
    }
}

/// What is rendered of a task before an attempt.
pub(super) struct Rendered {
    action: Arc<str>,
    input: Json,
    secrets: Option<Json>,
    timeout: Option<f64>,
    max_attempts: u32,
}

impl Rendered {
    /// `allowed` is how many attempts there may be, where that is known from the first.
    pub(super) fn new(
        task: &Task,
        scope: &Scope<'_>,
        allowed: Option<u32>,
    ) -> Result<Self, FieldError> {
        let action = render_action(task, scope)?;
        let input = task
            .input
            .render(scope)
            .map_err(|error| FieldError::new("input", &error))?;
        let secrets = match task.has_secrets {
            false => None,
            true => Some(task.input.secrets(scope)),
        };
        let secrets = secrets
            .transpose()
            .map_err(|error| FieldError::new("input", &error))?;
        let timeout = match &task.timeout {
            None => None,
            Some(timeout) => Some(number(timeout, scope, "timeout", f64::MIN_POSITIVE)?),
        };
        let max_attempts = match (&task.retry, allowed) {
            (Some(_), Some(allowed)) => allowed,
            (Some(retry), None) => whole(&retry.count, scope, "retry.count", 0)?.saturating_add(1),
            (None, _) => 1,
        };
        Ok(Self {
            action,
            input,
            secrets,
            timeout,
            max_attempts,
        })
    }

    pub(super) fn apply(self, run: &mut Run) {
        run.action = Some(self.action);
        run.timeout = self.timeout;
        run.max_attempts = self.max_attempts;
        if run.input.as_ref() != Some(&self.input) || run.secrets != self.secrets {
            run.input = Some(self.input);
            run.secrets = self.secrets;
            run.unsaved.input = true;
        }
    }
}

fn render_action(task: &Task, scope: &Scope<'_>) -> Result<Arc<str>, FieldError> {
    let Some(action) = &task.action else {
        return Ok(Arc::from(""));
    };
    let value = action
        .evaluate(scope)
        .map_err(|error| FieldError::new("action", &error))?;
    match value.as_str() {
        Some(name) if !name.is_empty() => Ok(Arc::from(name)),
        Some(_) | None => Err(FieldError::value(
            "action",
            format!("`{value}` is not the name of an action"),
        )),
    }
}

/// A number of seconds that a template gives, `least` or more; what is more than ten years counts as
/// ten years.
pub(super) fn number(
    template: &ValueTemplate,
    scope: &Scope<'_>,
    field: &str,
    least: f64,
) -> Result<f64, FieldError> {
    let value = template
        .evaluate(scope)
        .map_err(|error| FieldError::new(field, &error))?;
    match f64::try_from(value.clone()) {
        Ok(number) if number >= least => Ok(number.min(MAX_SECONDS)),
        Ok(_) | Err(_) => {
            let message = format!("`{value}` is not a number of seconds that can be used");
            Err(unfit(template, field, message))
        }
    }
}

/// A whole number that a template gives, `least` or more.
pub(super) fn whole(
    template: &ValueTemplate,
    scope: &Scope<'_>,
    field: &str,
    least: u32,
) -> Result<u32, FieldError> {
    let value = template
        .evaluate(scope)
        .map_err(|error| FieldError::new(field, &error))?;
    match u32::try_from(value.clone()) {
        Ok(number) if number >= least => Ok(number),
        Ok(_) | Err(_) => {
            let message = format!("`{value}` is not a whole number of {least} or more");
            Err(unfit(template, field, message))
        }
    }
}

/// A value that a template gives and that its field cannot take.
fn unfit(template: &ValueTemplate, field: &str, message: String) -> FieldError {
    FieldError {
        expression: Some(template.written()),
        ..FieldError::value(field, message)
    }
}

/// Seconds before the attempt that follows `attempt`: the rule's delay, and on top a share of it that
/// a hash of task and attempt picks, so that the same history always gives the same delays.
#[must_use]
pub fn jittered_delay_s(retry: &Retry, base_s: f64, task_id: TaskId, attempt: u32) -> f64 {
    if base_s <= 0.0 {
        // What grows without a bound has no product with nothing.
        return 0.0;
    }
    let retry_no = f64::from(attempt.max(1));
    let grown = match retry.backoff {
        Backoff::Constant => base_s,
        Backoff::Linear => base_s * retry_no,
        Backoff::Exponential { factor } => base_s * factor.powf(retry_no - 1.0),
    };
    let limit = retry.max_delay.unwrap_or(MAX_SECONDS).min(MAX_SECONDS);
    let jittered = grown.min(limit) * (1.0 + retry.jitter * unit_hash(task_id, attempt));
    jittered.min(limit)
}

/// Seconds that the action asks to wait at least, as a server does with `Retry-After`, within the
/// rule's longest delay; 0 or less if it asks for nothing.
fn asked_delay_s(retry: &Retry, ended: &Ended) -> f64 {
    #[derive(Deserialize)]
    struct Failure {
        details: Details,
    }
    #[derive(Deserialize)]
    struct Details {
        retry_after: f64,
    }
    // Details may be anything: what does not fit asks for nothing.
    let asked = serde_json::from_str(ended.error.text())
        .map_or(0.0, |failure: Failure| failure.details.retry_after);
    asked
        .min(retry.max_delay.unwrap_or(MAX_SECONDS))
        .min(MAX_SECONDS)
}

/// A number from 0 to 1 that depends on the task and the attempt alone (FNV-1a).
fn unit_hash(task_id: TaskId, attempt: u32) -> f64 {
    let bytes = task_id
        .0
        .into_bytes()
        .into_iter()
        .chain(attempt.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(mixed) / f64::from(u32::MAX)
}

/// `seconds` after `now`, to the microsecond, which is what Postgres keeps.
pub(super) fn after(now: DateTime<Utc>, seconds: f64) -> DateTime<Utc> {
    #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_SECONDS")]
    let micros = (seconds.clamp(0.0, 2.0 * MAX_SECONDS) * 1e6) as i64;
    now + TimeDelta::microseconds(micros)
}
