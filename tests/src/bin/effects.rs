//! A worker whose one action leaves a trace outside of Flotilla: each time that it runs it appends a
//! line to a file, so that a test can see what really ran, and how often.
//!
//! The line is `task_id/attempt worker milliseconds`, written in one piece (`O_APPEND`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_worker::{ActionError, Context, Worker, WorkerConfig};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Deserialize)]
struct Input {
    /// How long the effect takes after it has left its trace.
    #[serde(default)]
    seconds: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = PathBuf::from(std::env::var("FLOTILLA_EFFECTS")?);
    let file = Arc::new(OpenOptions::new().append(true).create(true).open(path)?);
    let mut config = WorkerConfig::new(std::env::var("AMQP_URL")?);
    config.name = std::env::var("FLOTILLA_WORKER")?;
    let worker = Worker::new(config).action("test.effect", move |context, input: Input| {
        let file = Arc::clone(&file);
        async move { effect(&file, &context, &input).await }
    });
    let mut terminated = signal(SignalKind::terminate())?;
    let asked = async move { terminated.recv().await.unwrap_or_default() };
    worker.run_with_ready(asked, || println!("ready")).await?;
    Ok(())
}

async fn effect(mut file: &File, context: &Context, input: &Input) -> Result<u32, ActionError> {
    let line = format!(
        "{}/{} {} {}\n",
        context.task_id,
        context.attempt,
        context.worker,
        chrono::Utc::now().timestamp_millis()
    );
    file.write_all(line.as_bytes())
        .map_err(|error| ActionError::retryable("no_trace", error.to_string()))?;
    tokio::time::sleep(Duration::from_secs_f64(input.seconds)).await;
    Ok(context.attempt)
}
