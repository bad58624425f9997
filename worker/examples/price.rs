//! A worker with one action of its own beside the built-in ones.
//!
//! `AMQP_URL=amqp://… cargo run -p flotilla-worker --example price`

use flotilla_worker::{ActionError, Context, Worker, WorkerConfig};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct PriceInput {
    article: String,
    quantity: u32,
}

#[derive(Serialize)]
struct PriceOutput {
    cents: u32,
}

async fn price(_context: Context, input: PriceInput) -> Result<PriceOutput, ActionError> {
    let each = match input.article.as_str() {
        "tea" => 450,
        "cup" => 1_200,
        other => {
            return Err(ActionError::fatal(
                "unknown_article",
                format!("no article `{other}`"),
            ));
        }
    };
    Ok(PriceOutput {
        cents: each * input.quantity,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = WorkerConfig::new(std::env::var("AMQP_URL")?);
    let worker = Worker::new(config).action("shop.price", price).built_in();
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    worker.run(interrupted).await?;
    Ok(())
}
